"""Mistakes in the factor in front of B A."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..mutant import Mutant
from ..reference import Factors, ReferenceAdapter, ReferenceLayer

OUTPUT, DECLARED, SCALE = "output-is-base-plus-update", "scaling-as-declared", "scale-multiplies-the-update"


class NotScaled(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801 - the name that a layer knows it by
        def scaling(self) -> float:
            return self.factor


class AlphaAlone(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.alpha


class TheWrongWayRound(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.r / self.config.alpha


class WholeNumbersDivided(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * (self.config.alpha // self.config.r)


class RankAndOne(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.alpha / (self.config.r + 1)


class RootOfAlpha(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * (self.config.alpha / self.config.r) ** 0.5


class IgnoresRsLoRA(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def scaling(self) -> float:
            return self.factor * self.config.alpha / self.config.r


class ScaledTwice(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update * self.current.scaling())


class SetsTheScale(ReferenceAdapter):
    def scale(self, wrapped: Any, factor: float) -> None:
        wrapped.current.factor = factor


class UnscalesOneStep(ReferenceAdapter):
    def scale(self, wrapped: Any, factor: float) -> None:
        super().scale(wrapped, factor)
        wrapped.last = factor

    def unscale(self, wrapped: Any) -> None:
        wrapped.current.factor /= wrapped.last


class UnscalesToOne(ReferenceAdapter):
    def unscale(self, wrapped: Any) -> None:
        wrapped.current.factor /= wrapped.current.scaling()


def _right(name: str) -> type[ReferenceLayer]:
    """The right layer by another name: the adapter is wrong."""
    return type(name, (ReferenceLayer,), {})


MUTANTS = (
    Mutant(NotScaled, "a scaling of 1", (OUTPUT, DECLARED)),
    Mutant(AlphaAlone, "alpha, not divided by the rank", (OUTPUT, DECLARED)),
    Mutant(TheWrongWayRound, "r / alpha", (OUTPUT, DECLARED)),
    Mutant(WholeNumbersDivided, "alpha // r", (OUTPUT, DECLARED)),
    Mutant(RankAndOne, "alpha / (r + 1)", (OUTPUT, DECLARED)),
    Mutant(RootOfAlpha, "√(alpha / r)", (OUTPUT, DECLARED)),
    Mutant(IgnoresRsLoRA, "alpha / r with rsLoRA", (OUTPUT, DECLARED)),
    Mutant(ScaledTwice, "scaled twice", (OUTPUT, SCALE)),
    Mutant(_right("SetsTheScale"), "the scaling is set, not multiplied", (SCALE,), SetsTheScale),
    Mutant(_right("UnscalesOneStep"), "only the last scale is undone", (SCALE,), UnscalesOneStep),
    Mutant(_right("UnscalesToOne"), "unscaled to 1", (SCALE,), UnscalesToOne),
)
