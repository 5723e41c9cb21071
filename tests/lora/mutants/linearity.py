"""Mistakes that make an update no linear map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..mutant import Mutant
from ..reference import ReferenceLayer

IN_A, IN_B, IN_X = "linear-in-a", "linear-in-b", "linear-in-the-input"
PERMUTED, SHARED = "ranks-can-be-permuted", "factors-share-their-size"


class ActivatesTheHidden(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        return F.gelu(super().down(x))


class NormalisesTheHidden(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        hidden = super().down(x)
        return hidden / (1e-6 + hidden.abs().mean())


class NormalisesA(ReferenceLayer):
    @property
    def a(self) -> Tensor:
        return F.normalize(self.current.a, dim=0)


class ClampsB(ReferenceLayer):
    @property
    def b(self) -> Tensor:
        return self.current.b.clamp(-0.5, 0.5)


class SquashesTheUpdate(ReferenceLayer):
    def up(self, hidden: Tensor) -> Tensor:
        return super().up(hidden).tanh()


class CentresTheInput(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return super().drop(x) if not x.is_floating_point() else F.normalize(x, dim=-1)


class ShiftsTheInput(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return super().drop(x) if not x.is_floating_point() else x + 0.01


class WeighsTheRanks(ReferenceLayer):
    """The k-th rank is divided by k, as nested ranks would be."""

    @property
    def a(self) -> Tensor:
        a = self.current.a
        return a / torch.arange(1, len(a) + 1, dtype=a.dtype).view(-1, *(1,) * (a.dim() - 1))


class LeavesOutTheFirstRank(ReferenceLayer):
    @property
    def a(self) -> Tensor:
        kept = torch.ones_like(self.current.a)
        kept[0] = 0
        return self.current.a * kept


class AddsAConstantToA(ReferenceLayer):
    @property
    def a(self) -> Tensor:
        return self.current.a + 0.01


MUTANTS = (
    Mutant(ActivatesTheHidden, "an activation between A and B", (IN_A, IN_X, SHARED)),
    Mutant(NormalisesTheHidden, "A x is divided by its size", (IN_A, SHARED)),
    Mutant(NormalisesA, "A is normalised", (IN_A, SHARED)),
    Mutant(ClampsB, "B is clamped", (IN_B, SHARED)),
    Mutant(SquashesTheUpdate, "the update goes through tanh", (IN_A, IN_B, IN_X)),
    Mutant(CentresTheInput, "the input of A is normalised", (IN_X,)),
    Mutant(ShiftsTheInput, "a constant is added to the input of A", (IN_X,)),
    Mutant(WeighsTheRanks, "later ranks weigh less", (PERMUTED,)),
    Mutant(LeavesOutTheFirstRank, "the first rank is left out", (PERMUTED,)),
    Mutant(AddsAConstantToA, "a constant is added to A", (SHARED,)),
)
