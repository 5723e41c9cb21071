"""Mistakes in DoRA's weight decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from ..mutant import Mutant
from ..reference_dora import WideAdapter, WideLayer

START = ("dora-magnitude-starts-as-length",)
OUTPUT = ("dora-output", "dora-merges-what-it-computes")


class LengthOverOutputs(WideLayer):
    def outputs_first(self, weight: Tensor) -> Tensor:
        return super().outputs_first(weight).T


class LengthForgetsOrientation(WideLayer):
    """As PEFT 0.10 did with GPT-2's layers."""

    def lengths(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight.flatten(1), dim=1)


class OneLengthForAll(WideLayer):
    def lengths(self, weight: Tensor) -> Tensor:
        return super().lengths(weight).norm().expand(self.outputs_first(weight).shape[0]).clone()


class SumOfAbsoluteValues(WideLayer):
    def lengths(self, weight: Tensor) -> Tensor:
        return self.outputs_first(weight).flatten(1).abs().sum(1)


class LengthOfTheBase(WideLayer):
    def ratio(self) -> Tensor:
        return self.magnitude / self.lengths(self.base.weight)


class LengthOfWhatIsUnscaled(WideLayer):
    def ratio(self) -> Tensor:
        return self.magnitude / self.lengths(self.base.weight + self.delta() / self.current.scaling()).detach()


class AddsToTheLength(WideLayer):
    def ratio(self) -> Tensor:
        return self.magnitude / (self.lengths(self.base.weight + self.delta()).detach() + 1e-3)


class StartsAtOne(WideLayer):
    def add(self, name: str, config: object) -> None:
        super().add(name, config)  # type: ignore[arg-type]
        torch.nn.init.ones_(self.magnitude)


class IgnoresTheMagnitude(WideLayer):
    def ratio(self) -> Tensor:
        return torch.ones_like(self.magnitude)


class ScalesTheBias(WideLayer):
    def decomposed(self, x: Tensor) -> Tensor:
        updated = self.base(x) + self.update(x) * self.current.scaling()
        return updated * self.by_output(self.ratio())


class ScalesTheUpdateAlone(WideLayer):
    def decomposed(self, x: Tensor) -> Tensor:
        update = self.update(x) * self.current.scaling() * self.by_output(self.ratio())
        return self.base(x) + update  # type: ignore[no-any-return]


class MergesWithoutTheMagnitude(WideLayer):
    def merge(self) -> None:
        self.used = torch.ones_like(self.magnitude)
        self.base.weight.data += self.delta().detach()
        self.merged = True


class UnmergesByTheLengthOfTheMerged(WideLayer):
    def unmerge(self) -> None:
        self.used = self.ratio().detach()
        super().unmerge()


class UnmergesTheMagnitudeAlone(WideLayer):
    def unmerge(self) -> None:
        if self.merged and self.current.config.use_dora:
            self.base.weight.data = self.outputs_scaled(self.base.weight.data, 1 / self.used)
            self.merged = False
        super().unmerge()


class DetachesTheMagnitude(WideLayer):
    def ratio(self) -> Tensor:
        return super().ratio().detach()


class DetachesTheUpdate(WideLayer):
    def update(self, x: Tensor) -> Tensor:
        return super().update(x).detach()


def _mutant(layer: type[WideLayer], mistake: str, *by: str) -> Mutant:
    return Mutant(layer, mistake, by, WideAdapter)


MUTANTS = (
    _mutant(LengthOverOutputs, "the length is taken over the outputs", *START, *OUTPUT),
    _mutant(LengthForgetsOrientation, "the length forgets that a weight lies the other way round", *START, *OUTPUT),
    _mutant(OneLengthForAll, "one length for the whole matrix", *START, *OUTPUT),
    _mutant(SumOfAbsoluteValues, "the length is the sum of absolute values", *START, *OUTPUT),
    _mutant(LengthOfTheBase, "divided by ‖W‖", *OUTPUT),
    _mutant(LengthOfWhatIsUnscaled, "divided by ‖W + B A‖", *OUTPUT),
    _mutant(AddsToTheLength, "a thousandth is added to the length", *OUTPUT, "dora-starts-as-the-base"),
    _mutant(StartsAtOne, "the magnitude starts at 1", *START, "dora-starts-as-the-base"),
    _mutant(IgnoresTheMagnitude, "the weight keeps its own length", *OUTPUT),
    _mutant(ScalesTheBias, "the bias is scaled too", "dora-output"),
    _mutant(ScalesTheUpdateAlone, "the magnitude scales the update and not the base", "dora-output"),
    _mutant(MergesWithoutTheMagnitude, "W + ΔW is merged", "dora-merges-what-it-computes"),
    _mutant(UnmergesByTheLengthOfTheMerged, "taken out by the length of the merged weight", "dora-unmerges"),
    _mutant(UnmergesTheMagnitudeAlone, "ΔW is not subtracted again", "dora-unmerges"),
    _mutant(DetachesTheMagnitude, "the magnitude has no gradient", "dora-gradients"),
    _mutant(DetachesTheUpdate, "the update is detached", "dora-gradients"),
)
