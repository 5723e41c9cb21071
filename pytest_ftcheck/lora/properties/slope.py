"""How the first gradient depends on the rank: what rsLoRA is for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ...methods import LoRA
from ..adapter import Adapter
from ..bases.linear import Linear
from ..layer_case import AdaptedLayer, LayerCase
from ..property import Deviation, lora_property
from ..state import AdapterState
from ..trained import gradient_of

RSLORA = "https://arxiv.org/abs/2312.03732"
RANKS = (2, 8, 32, 128)
# A of rank 2 has 512 numbers, whose length varies by 3 % from draw to draw where they are normal and by 2 % where they
# are uniform: the slope over these ranks varies by 0.007. A scaling by another power of r is off by 0.5.
WIDTH = 256
WITHIN = 0.05


@dataclass(frozen=True)
class RankSweep:
    """One layer at several ranks, with the same alpha."""

    case: LayerCase

    def subject(self, adapter: Adapter) -> list[AdaptedLayer]:
        ranks = (replace(self.case, config=replace(self.case.config, r=r)) for r in RANKS)
        return [AdaptedLayer(one, adapter, fill=False) for one in ranks]

    def __str__(self) -> str:
        named = "rsLoRA, " if self.case.config.use_rslora else ""
        return f"{self.case.base}, {named}alpha={self.case.config.alpha:g}, r in {RANKS}, seed {self.case.seed}"


def sweeps(rslora: bool, kind: str, adapter: Adapter) -> SearchStrategy[RankSweep]:
    """Three seeds are enough for what hardly depends on them."""

    def sweep(alpha: float, seed: int) -> RankSweep:
        config = LoRA(alpha=alpha, use_rslora=rslora)
        return RankSweep(LayerCase(Linear(WIDTH, WIDTH), config, torch.float32, AdapterState(), (WIDTH,), seed))

    return st.builds(sweep, st.sampled_from((1.0, 16.0)), st.integers(0, 2))


@lora_property(
    "gradient-falls-with-rank",
    "with alpha / r, the first gradient of B falls with the root of the rank",
    formula="log ‖∂L/∂B‖ has the slope -1/2 in log r, at a fixed alpha",
    source=RSLORA,
    cause="the scaling has another power of r in it, or the spread of A at the start depends on the rank",
    cases=partial(sweeps, False),
    kinds=("linear",),
)
def gradient_falls_with_rank(subject: list[AdaptedLayer]) -> Iterator[Deviation]:
    yield from _deviations(subject, -0.5)


@lora_property(
    "rslora-gradient-keeps-its-size",
    "with rsLoRA, the first gradient of B does not depend on the rank",
    formula="log ‖∂L/∂B‖ has the slope 0 in log r, at a fixed alpha: the scaling is alpha / √r",
    source=RSLORA,
    cause="the scaling is alpha / r, or the spread of A at the start depends on the rank",
    cases=partial(sweeps, True),
    kinds=("linear",),
    features=("rslora",),
)
def rslora_gradient_keeps_its_size(subject: list[AdaptedLayer]) -> Iterator[Deviation]:
    yield from _deviations(subject, 0.0)


def _deviations(sweep: list[AdaptedLayer], exact: float) -> Iterator[Deviation]:
    sizes = [_first_gradient(subject) for subject in sweep]
    if not all(size > 0 for size in sizes):
        told = ", ".join(f"{size:.3g} at r={r}" for size, r in zip(sizes, RANKS, strict=True))
        yield Deviation(f"‖∂L/∂B‖ is {told}; must be greater than 0", "B has no gradient, or A starts at 0")
        return
    slope = _slope([math.log(r) for r in RANKS], [math.log(size) for size in sizes])
    if not abs(slope - exact) <= WITHIN:
        yield Deviation(f"the slope is {slope:.3f}, must be {exact:g} within {WITHIN}")


def _first_gradient(subject: AdaptedLayer) -> float:
    """‖∂L/∂B‖ at the start, for unit vectors and a loss whose gradient in their outputs is 1 in the direction of each:
    s·‖A‖, in which no direction of A weighs more than another.
    """
    unit = torch.eye(WIDTH)
    subject(unit).backward(unit)  # type: ignore[no-untyped-call]
    gradient = gradient_of(subject.wrapped, subject.b)
    return 0.0 if gradient is None else float(gradient.double().norm())


def _slope(x: list[float], y: list[float]) -> float:
    """Of the least-squares line."""
    centre = sum(x) / len(x)
    weights = [one - centre for one in x]
    return sum(w * one for w, one in zip(weights, y, strict=True)) / sum(w * w for w in weights)
