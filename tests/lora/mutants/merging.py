"""Mistakes in ΔW, and in merging it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mutant import Mutant
from ..reference import ReferenceLayer
from ..reference_dora import WideAdapter, WideLayer

DELTA, RANK, ASKED = "delta-is-the-scaled-product", "delta-has-at-most-the-rank", "delta-changes-nothing"
WEIGHT, OUTPUT, KEEPS = "merged-weight", "merged-output", "merging-keeps-the-output"
RESTORES, CYCLES, TWICE = "unmerging-restores", "merging-in-cycles", "merging-twice-is-merging-once"
LEAVES, FROZEN = "merging-leaves-the-factors", "merging-keeps-the-base-frozen"
DISABLED = "disabled-while-merged-is-the-base"


class ForgetsTheScaling(ReferenceLayer):
    def delta(self) -> Tensor:
        return super().delta() / self.current.scaling()


class ReshapesForTransposes(ReferenceLayer):
    def orient(self, product: Tensor) -> Tensor:
        return product.reshape(self.base.weight.shape)


class AddsADiagonal(ReferenceLayer):
    def delta(self) -> Tensor:
        delta = super().delta()
        return delta + 1e-3 * torch.eye(*delta.shape) if delta.dim() == 2 else delta


class IncludesTheBase(ReferenceLayer):
    def delta(self) -> Tensor:
        return super().delta() + 0.01 * self.base.weight


class ScalesAInPlace(ReferenceLayer):
    def delta(self) -> Tensor:
        self.current.a.data.mul_(self.current.scaling())
        return super().delta() / self.current.scaling()


class AddsItRightAway(ReferenceLayer):
    def delta(self) -> Tensor:
        delta = super().delta()
        if not self.merged:
            self.base.weight.data += 1e-3
        return delta


class Replaces(ReferenceLayer):
    def merge(self) -> None:
        if not self.merged:
            self.base.weight.data = self.delta().detach()
            self.merged = True


class StillAddsTheUpdate(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.base(x), self.update(x)) if self.enabled else super().forward(x)


class AddsTheUpdateInTraining(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.enabled:
            return self.combine(self.base(x), self.update(x))
        return super().forward(x)


class MergesAgain(ReferenceLayer):
    def merge(self) -> None:
        self.base.weight.data += self.delta()
        self.merged = True


class UnmergesUnasked(ReferenceLayer):
    def unmerge(self) -> None:
        if self.enabled:
            self.base.weight.data -= self.delta()
            self.merged = False
        else:
            super().unmerge()


class UnmergesWithoutTheScaling(ReferenceLayer):
    def unmerge(self) -> None:
        if self.merged:
            self.base.weight.data -= self.delta() / self.current.scaling()
            self.merged = False


class StaysMerged(ReferenceLayer):
    def unmerge(self) -> None:
        if self.merged:
            self.base.weight.data -= self.delta()


class OnlyForgetsThatItIsMerged(ReferenceLayer):
    def unmerge(self) -> None:
        self.merged = False


class MergesOnce(ReferenceLayer):
    def merge(self) -> None:
        if getattr(self, "done", False):
            self.merged = True
            return
        self.done = True
        super().merge()


class ZeroesTheFactors(ReferenceLayer):
    def merge(self) -> None:
        super().merge()
        self.kept = self.current.b.detach().clone()
        self.current.b.data.zero_()

    def unmerge(self) -> None:
        if self.merged:
            self.current.b.data.copy_(self.kept)
        super().unmerge()


class LeavesThemScaled(ReferenceLayer):
    def unmerge(self) -> None:
        super().unmerge()
        self.current.a.data.mul_(2.0)
        self.current.b.data.mul_(0.5)


class MakesANewParameter(ReferenceLayer):
    def merge(self) -> None:
        if not self.merged:
            self.base.weight = nn.Parameter(self.base.weight.detach() + self.delta().detach())
            self.merged = True


class MergesIntoSinglePrecision(ReferenceLayer):
    def merge(self) -> None:
        if not self.merged:
            self.base.weight.data = self.base.weight.data.float() + self.delta().detach().float()
            self.merged = True


class StaysMergedWhenDisabled(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.enabled else self.base(x)  # type: ignore[no-any-return]


class AddsTheUpdateWhenMergedAndDisabled(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.base(x), self.update(x)) if not self.enabled and self.merged else super().forward(x)


class ForgetsTheBiasOfTheUpdate(WideLayer):
    """It is merged as long as it is not looked at."""

    def merge(self) -> None:
        trained = None if self.base_bias is None else self.base_bias.detach().clone()
        super().merge()
        if trained is not None:
            self.base_bias.data.zero_()  # type: ignore[union-attr]


class AddsABiasOfOne(WideLayer):
    def merge(self) -> None:
        super().merge()
        for bias in [] if self.base_bias is None else [self.base_bias]:
            bias.data += 1.0


def _biased(layer: type[Any], mistake: str) -> Mutant:
    return Mutant(layer, mistake, (KEEPS, OUTPUT), WideAdapter)


MUTANTS = (
    Mutant(ForgetsTheScaling, "ΔW is not scaled", (DELTA, WEIGHT, OUTPUT)),
    Mutant(ReshapesForTransposes, "ΔW is reshaped and not turned", (DELTA, WEIGHT, OUTPUT)),
    Mutant(AddsADiagonal, "ΔW has a diagonal", (RANK, DELTA)),
    Mutant(IncludesTheBase, "ΔW has 1 % of the weight in it", (RANK, DELTA)),
    Mutant(ScalesAInPlace, "A is scaled in place for ΔW", (ASKED, LEAVES)),
    Mutant(AddsItRightAway, "the weight is changed when ΔW is asked for", (ASKED,)),
    Mutant(Replaces, "ΔW replaces the weight", (WEIGHT, OUTPUT, KEEPS)),
    Mutant(StillAddsTheUpdate, "the update is added to what is merged", (OUTPUT, KEEPS)),
    Mutant(AddsTheUpdateInTraining, "the update is added to what is merged, in training", (OUTPUT,)),
    Mutant(MergesAgain, "merged a second time", (TWICE,)),
    Mutant(UnmergesUnasked, "unmerged what was not merged", (TWICE,)),
    Mutant(UnmergesWithoutTheScaling, "unmerged without the scaling", (RESTORES, CYCLES, DISABLED)),
    Mutant(StaysMerged, "thought to be merged after unmerging", (RESTORES, CYCLES)),
    Mutant(OnlyForgetsThatItIsMerged, "unmerging subtracts nothing", (RESTORES, CYCLES, DISABLED)),
    Mutant(MergesOnce, "the second merge adds nothing", (CYCLES,)),
    Mutant(ZeroesTheFactors, "merging sets B to zero", (LEAVES,)),
    Mutant(LeavesThemScaled, "unmerging moves the size from B to A", (LEAVES,)),
    Mutant(MakesANewParameter, "the merged weight trains", (FROZEN,)),
    Mutant(MergesIntoSinglePrecision, "the merged weight is float32", (FROZEN,)),
    Mutant(StaysMergedWhenDisabled, "disabled, the weight stays merged", (DISABLED,)),
    Mutant(AddsTheUpdateWhenMergedAndDisabled, "disabled, the update is added to what is merged", (DISABLED,)),
    _biased(ForgetsTheBiasOfTheUpdate, "merging loses the bias"),
    _biased(AddsABiasOfOne, "merging adds to the bias"),
)
