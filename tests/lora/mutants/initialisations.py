"""Mistakes in how the factors start."""

from __future__ import annotations

import torch
from torch import nn

from ..mutant import Mutant
from ..reference_dora import WideAdapter, WideFactors, WideLayer


class BothStartAtZero(WideLayer):
    class factors_type(WideFactors):  # noqa: N801 - the name that a layer knows it by
        def start(self) -> None:
            nn.init.zeros_(self.a)
            nn.init.zeros_(self.b)


class NeitherStartsAtZero(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            nn.init.normal_(self.b, std=1e-3)


class StartsAtAConstant(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            nn.init.constant_(self.a, 0.02)


class SetsASeed(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            torch.manual_seed(0)
            super().start()


class DrawsWithoutTheSeed(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            source = torch.Generator()
            source.seed()
            nn.init.normal_(self.a, generator=source)


class RepeatsOneRank(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            self.a.data[:] = self.a.data[:1].clone()


class UniformForGaussian(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            nn.init.uniform_(self.a, -(3**0.5) / self.config.r, 3**0.5 / self.config.r)


class SpreadIsTheRootOfTheRank(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            super().start()
            nn.init.normal_(self.a, std=self.config.r**-0.5)


class IgnoresGaussian(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            nn.init.kaiming_uniform_(self.a, a=5**0.5)
            nn.init.zeros_(self.b)


def _mutant(layer: type[WideLayer], mistake: str, *by: str) -> Mutant:
    return Mutant(layer, mistake, by, WideAdapter)


MUTANTS = (
    _mutant(BothStartAtZero, "both factors start at zero", "one-factor-starts-at-zero"),
    _mutant(NeitherStartsAtZero, "neither factor starts at zero", "one-factor-starts-at-zero", "starts-as-the-base"),
    _mutant(StartsAtAConstant, "all numbers of A are the same", "starts-at-random"),
    _mutant(SetsASeed, "a seed is set whenever a layer is made", "starts-at-random"),
    _mutant(DrawsWithoutTheSeed, "a generator of its own decides", "starts-at-random"),
    _mutant(RepeatsOneRank, "all ranks start alike", "starts-at-random"),
    _mutant(UniformForGaussian, "a uniform distribution of the right spread", "gaussian-start"),
    _mutant(SpreadIsTheRootOfTheRank, "the spread is 1 / √r", "gaussian-start"),
    _mutant(IgnoresGaussian, "init='gaussian' is not looked at", "gaussian-start"),
)
