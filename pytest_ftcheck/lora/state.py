"""What the factors of an adapter can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Content = Literal["trained", "zero B", "huge", "tiny", "negative zero"]
CONTENTS: tuple[Content, ...] = Content.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class AdapterState:
    """Numbers for A and B. "trained": both are like what training leaves. "huge" and "tiny": products of them are at
    the ends of what the layer's precision can hold. "negative zero": B is -0, which is 0.
    """

    content: Content = "trained"
    seed: int = 0

    def fill(self, a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
        """Write into the factors of a layer whose weights are of ``dtype``."""
        import torch

        from .bases.random import generator

        source, scale = generator(self.seed), self._scale(dtype)
        with torch.no_grad():
            for factor in (a, b):
                factor.copy_(scale * torch.randn(factor.shape, generator=source, dtype=torch.float64))
            if self.content in ("zero B", "negative zero"):
                b.fill_(0.0 if self.content == "zero B" else -0.0)

    def _scale(self, dtype: torch.dtype) -> float:
        import torch

        # What is at most the fourth root leaves room for sums over the inputs, and for the scaling.
        limits = {"huge": torch.finfo(dtype).max ** 0.25, "tiny": torch.finfo(dtype).smallest_normal ** 0.5}
        return float(limits.get(self.content, 1.0))

    def __str__(self) -> str:
        return f"{self.content} factors"
