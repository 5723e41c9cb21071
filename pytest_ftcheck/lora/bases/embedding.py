"""``nn.Embedding``: a lookup, which is a linear map of one-hot vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .random import generator, with_normal_weights


@dataclass(frozen=True)
class Embedding:
    """y = W[x], with W: (vocabulary, outputs). The padding token's row is looked up like any other; its row of W is not
    trained (https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html).
    """

    vocabulary: int
    outputs: int
    padding: int | None = None

    kind = "embedding"
    groups = 1

    def shapes(self, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (r, self.vocabulary), (self.outputs, r)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        return with_normal_weights(nn.Embedding(self.vocabulary, self.outputs, self.padding, dtype=dtype), seed)

    def inputs(self, rows: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        return torch.randint(self.vocabulary, rows, generator=generator(seed))

    def weight(self, layer: Any) -> Tensor:
        return layer.weight  # type: ignore[no-any-return]

    def bias(self, layer: Any) -> Tensor | None:
        return None

    def dense(self, weight: Tensor) -> Tensor:
        return weight

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        return (b @ a).T

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        return nn.functional.embedding(x, weight, self.padding)

    def __str__(self) -> str:
        padding = "" if self.padding is None else f", padding {self.padding}"
        return f"Embedding({self.vocabulary} -> {self.outputs}{padding})"
