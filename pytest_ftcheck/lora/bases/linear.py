"""``nn.Linear``, and GPT-2's ``Conv1D``, which has its weight the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .random import normal, with_normal_weights


@dataclass(frozen=True)
class Linear:
    """y = W x + b, with W: (outputs, inputs)."""

    inputs_: int
    outputs: int
    has_bias: bool = True

    kind = "linear"
    groups = 1

    def shapes(self, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (r, self.inputs_), (self.outputs, r)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        return with_normal_weights(nn.Linear(self.inputs_, self.outputs, bias=self.has_bias, dtype=dtype), seed)

    def inputs(self, rows: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        return normal((*rows, self.inputs_), dtype, seed)

    def weight(self, layer: Any) -> Tensor:
        return layer.weight  # type: ignore[no-any-return]

    def bias(self, layer: Any) -> Tensor | None:
        return layer.bias  # type: ignore[no-any-return]

    def dense(self, weight: Tensor) -> Tensor:
        return weight

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        return b @ a

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        return nn.functional.linear(x, weight, bias)

    def __str__(self) -> str:
        return f"Linear({self.inputs_} -> {self.outputs}{'' if self.has_bias else ', no bias'})"


class Conv1D(Linear):
    """y = Wᵀ x + b, with W: (inputs, outputs)."""

    kind = "conv1d"

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        from transformers import pytorch_utils as library

        layer: nn.Module = library.Conv1D(self.outputs, self.inputs_)  # type: ignore[no-untyped-call]
        return with_normal_weights(layer.to(dtype), seed)

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        return (b @ a).T

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        return nn.functional.linear(x, weight.T, bias)

    def __str__(self) -> str:
        return f"Conv1D({self.inputs_} -> {self.outputs})"
