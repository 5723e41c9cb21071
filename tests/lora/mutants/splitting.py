"""Mistakes in PiSSA and OLoRA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..mutant import Mutant
from ..reference_dora import WideAdapter, WideLayer

SPLITS = ("pissa-splits-the-weight", "pissa-starts-as-the-base", "olora-splits-the-weight", "olora-starts-as-the-base")
PRINCIPAL = "pissa-takes-the-principal-part"
DECOMPOSES = "olora-decomposes-the-weight"


class KeepsTheWholeWeight(WideLayer):
    def split(self, factors: Any) -> None:
        whole = self.base.weight.detach().clone()
        super().split(factors)
        self.base.weight.data.copy_(whole)


class LeavesWithoutTheScaling(WideLayer):
    def split(self, factors: Any) -> None:
        whole = self.base.weight.detach().clone()
        super().split(factors)
        self.base.weight.data.copy_(whole - self.orient(factors.b @ factors.a).detach())


class ScalesThePartTwice(WideLayer):
    def principal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        b, a = super().principal(weight, factors)
        return b / factors.scaling() ** 0.5, a / factors.scaling() ** 0.5


class TakesTheSmallestSingularValues(WideLayer):
    """As MiLoRA does, which is another method."""

    def principal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        r = factors.config.r
        root = (s[-r:] / factors.scaling()).sqrt()
        return u[:, -r:] * root, root[:, None] * v[-r:]


class LeavesOneRankBehind(WideLayer):
    def principal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        b, a = super().principal(weight, factors)
        rank = max(len(a) - 1, 1)
        return b[:, :rank], a[:rank]


class GivesOneFactorAllOfTheSize(WideLayer):
    def principal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        b, a = super().principal(weight, factors)
        sizes = b.norm(dim=0)
        return b * sizes, a / sizes[:, None]


class SwapsQAndR(WideLayer):
    """The decomposition of the transposed weight."""

    def orthonormal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(weight.T)
        rank = factors.config.r
        return r[:rank].T, q[:, :rank].T


class TakesSingularVectorsForQ(WideLayer):
    def orthonormal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        return self.principal(weight, factors)


class ForgetsTheTriangle(WideLayer):
    def orthonormal(self, weight: Tensor, factors: Any) -> tuple[Tensor, Tensor]:
        q, r = super().orthonormal(weight, factors)
        return q, torch.randn_like(r)


class StartsLikeAnyOther(WideLayer):
    def split(self, factors: Any) -> None:
        pass


def _mutant(layer: type[WideLayer], mistake: str, *by: str) -> Mutant:
    return Mutant(layer, mistake, by, WideAdapter)


MUTANTS = (
    _mutant(KeepsTheWholeWeight, "the base keeps all of its weight", *SPLITS),
    _mutant(LeavesWithoutTheScaling, "the residual is W - B A", *SPLITS),
    _mutant(ScalesThePartTwice, "the singular values are divided by the scaling twice", PRINCIPAL),
    _mutant(TakesTheSmallestSingularValues, "the smallest singular values are taken", PRINCIPAL),
    _mutant(LeavesOneRankBehind, "one rank too few is taken", PRINCIPAL),
    _mutant(GivesOneFactorAllOfTheSize, "B has the singular values and A has none", PRINCIPAL),
    _mutant(SwapsQAndR, "A is orthonormal, and B is not", DECOMPOSES),
    _mutant(TakesSingularVectorsForQ, "an SVD for a QR decomposition", DECOMPOSES),
    _mutant(ForgetsTheTriangle, "A is random", DECOMPOSES),
    _mutant(StartsLikeAnyOther, "neither is done", SPLITS[0], SPLITS[2], PRINCIPAL, DECOMPOSES),
)
