"""The experts of a mixture, stacked into one parameter, as in the models of transformers 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .random import normal, with_normal_weights


class StackedExperts(nn.Module):
    """y[e] = x[e] W[e] for each expert e, with W: (experts, inputs, outputs), or the other way round."""

    def __init__(self, experts: int, inputs: int, outputs: int, transposed: bool, dtype: torch.dtype) -> None:
        super().__init__()
        shape = (experts, outputs, inputs) if transposed else (experts, inputs, outputs)
        self.weight = nn.Parameter(torch.empty(shape, dtype=dtype))
        self.is_transposed = not transposed

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, is_transposed={self.is_transposed}"

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight if self.is_transposed else self.weight.mT)


@dataclass(frozen=True)
class Experts:
    """Inputs: (experts, rows, inputs). A: (experts, r, inputs) and B: (experts, outputs, r)."""

    experts: int
    inputs_: int
    outputs: int
    outputs_first: bool = False

    kind = "experts"
    groups = 1

    def shapes(self, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.experts, r, self.inputs_), (self.experts, self.outputs, r)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        layer = StackedExperts(self.experts, self.inputs_, self.outputs, self.outputs_first, dtype)
        return with_normal_weights(layer, seed)

    def inputs(self, rows: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        return normal((self.experts, rows[0], self.inputs_), dtype, seed)

    def weight(self, layer: Any) -> Tensor:
        return layer.weight  # type: ignore[no-any-return]

    def bias(self, layer: Any) -> Tensor | None:
        return None

    def dense(self, weight: Tensor) -> Tensor:
        return weight

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        return b @ a if self.outputs_first else (b @ a).mT

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        return x @ (weight.mT if self.outputs_first else weight)

    def __str__(self) -> str:
        order = ", outputs first" if self.outputs_first else ""
        return f"{self.experts} experts({self.inputs_} -> {self.outputs}{order})"
