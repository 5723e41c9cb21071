"""Mistakes in how the first gradient depends on the rank."""

from __future__ import annotations

from torch import Tensor, nn

from ..mutant import Mutant
from ..reference_dora import WideAdapter, WideFactors, WideLayer

FALLS, KEEPS = "gradient-falls-with-rank", "rslora-gradient-keeps-its-size"


class AlwaysTheRoot(WideLayer):
    class factors_type(WideFactors):  # noqa: N801 - the name that a layer knows it by
        def scaling(self) -> float:
            return self.factor * self.config.alpha / self.config.r**0.5


class NeverTheRoot(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.alpha / self.config.r


class NeverTheRank(WideLayer):
    class factors_type(WideFactors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.alpha


class SpreadOfTheWrongSide(WideLayer):
    """A kept as (inputs, r), for which Kaiming's start takes the rank for the number of inputs."""

    class factors_type(WideFactors):  # noqa: N801
        def start(self) -> None:
            nn.init.kaiming_uniform_(self.a.data.T, a=5**0.5)
            nn.init.zeros_(self.b)


class DetachesTheUpdate(WideLayer):
    def update(self, x: Tensor) -> Tensor:
        return super().update(x).detach()


def _mutant(layer: type[WideLayer], mistake: str, *by: str) -> Mutant:
    return Mutant(layer, mistake, by, WideAdapter)


MUTANTS = (
    _mutant(AlwaysTheRoot, "alpha / √r without rsLoRA", FALLS),
    _mutant(NeverTheRoot, "alpha / r with rsLoRA", KEEPS),
    _mutant(NeverTheRank, "alpha alone", FALLS, KEEPS),
    _mutant(SpreadOfTheWrongSide, "A starts smaller for a larger rank", FALLS, KEEPS),
    _mutant(DetachesTheUpdate, "the factors have no gradient", FALLS, KEEPS),
)
