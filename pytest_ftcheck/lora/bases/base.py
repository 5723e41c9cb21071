"""What the properties must know of a kind of layer: how to build one, and what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Base(Protocol):
    """The shape of a layer that LoRA can adapt, and the arithmetic of it, in the precision of what it is given.

    A layer is linear in its *dense* weight, which is its own weight but for a grouped convolution, where it has the
    zeros between the groups written out: LoRA's A sees every channel (peft 0.21.2), and so ΔW has no groups.
    """

    @property
    def kind(self) -> str:
        """``"linear"``, ``"conv1d"``, ...: what an ``Adapter`` says it can adapt."""

    @property
    def groups(self) -> int:
        """What the rank must be a multiple of."""

    def shapes(self, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of A and B of rank ``r``."""

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        """The layer, with weights from the standard normal distribution."""

    def inputs(self, rows: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        """What goes into it, with ``rows`` in front: (*rows, features), or tokens, or images."""

    def weight(self, layer: nn.Module) -> Tensor:
        """The parameter that LoRA adapts, as it lies in memory."""

    def bias(self, layer: nn.Module) -> Tensor | None:
        """The bias that is added, if there is one."""

    def dense(self, weight: Tensor) -> Tensor:
        """A weight as it lies in memory -> the dense one."""

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        """B A without the scaling, in the orientation of the dense weight. A: (r, ...), B: (outputs, r, ...)."""

    def apply(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        """What a layer with this dense weight and bias makes of ``x``: linear in each of the three."""
