"""Whether a loss curve has come to rest: by itself, because its learning rate has, or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..codec import Record
from ..run import Run
from .power_law import PowerLaw, fitted

# Nats that a loss may still fall by while the steps double.
PLATEAU = 0.005
# The last part of the curve that is looked at: from a quarter of its steps on, that is two doublings.
WINDOW = 4
FEWEST_POINTS = 4
CONFIDENCE = 0.95
# A learning rate of this share of its peak moves nothing any more: the schedule is over.
OVER = 0.2
# One that falls by more than this within the window makes any curve flat.
STEADY = 0.75

SETTLED, SCHEDULE_OVER, FALLING, UNKNOWN = "settled", "schedule over", "falling", "unknown"


@dataclass(frozen=True)
class Settling(Record):
    """How an arm stands after ``step`` updates: ``"settled"``, ``"schedule over"`` (its learning rate has come to its
    end, so this is what so many updates give), ``"falling"`` or ``"unknown"``.

    ``decrease`` (nats) is by how much the loss falls while the steps double, and ``most`` its upper limit (one-sided,
    95 %); NaN where there are too few points. ``law`` is None where none could be fitted, or the learning rate changed
    after its warm-up: the bend of a schedule looks like a floor.
    """

    step: int
    loss: float
    state: str
    reason: str
    decrease: float
    most: float
    law: PowerLaw | None

    @property
    def at_rest(self) -> bool:
        return self.state in (SETTLED, SCHEDULE_OVER)


def settling(runs: Sequence[Run], at: int) -> Settling:
    """How the arm of ``runs``, one for each seed, stands after ``at`` updates; later ones are not looked at."""
    curve = mean_curve(runs, at)
    warm_up = _warm_up(runs[0], at)
    steady = _is_steady(rates_of(runs[0])[warm_up:at])
    law = fitted([(step, loss) for step, loss in curve if step > warm_up]) if steady else None
    decrease, most = _decrease_per_doubling([(s, loss) for s, loss in curve if s * WINDOW >= at])
    state, reason = _state(runs[0], at, decrease, most)
    return Settling(at, statistics.fmean(run.loss.at(at) for run in runs), state, reason, decrease, most, law)


def mean_curve(runs: Sequence[Run], at: int) -> list[tuple[int, float]]:
    """(step, loss) up to ``at``, means over the seeds: the evaluations, or training losses four to a doubling."""
    loss = runs[0].loss
    steps = [step for step, _ in loss.eval] or [max(1, round(at * 2 ** (-i / 4))) for i in range(40)]
    shown = sorted({step for step in steps if 0 < step <= at})
    return [(step, statistics.fmean(run.loss.at(step) for run in runs)) for step in shown]


def _state(run: Run, at: int, decrease: float, most: float) -> tuple[str, str]:
    rates = rates_of(run)[:at]
    if len(rates) == at and at == run.steps and rates[-1] <= OVER * max(rates):
        return SCHEDULE_OVER, f"its learning rate ended at {rates[-1] / max(rates):.2g} of its peak"
    if math.isnan(most):
        return UNKNOWN, f"fewer than {FEWEST_POINTS} losses from step {math.ceil(at / WINDOW)} on"
    falls = f"{decrease:.2g} nats while the steps double (at most {most:.2g})"
    if not _is_steady(rates[len(rates) // WINDOW :]):
        return FALLING, f"its learning rate is on the way down, which flattens any curve; the loss falls by {falls}"
    if most < PLATEAU:
        return SETTLED, f"the loss falls by {falls}"
    return FALLING, f"the loss falls by {falls}, and {PLATEAU:g} would be a plateau"


def _is_steady(rates: Sequence[float]) -> bool:
    """Whether they are nearly the same throughout; also where none are known."""
    return not rates or min(rates) >= STEADY * max(rates)


def rates_of(run: Run) -> tuple[float, ...]:
    """The learning rate of each update, in the first group of the first optimizer; empty where none is known."""
    groups = [group for optimizer in run.optimizers for group in optimizer.groups]
    return groups[0].lr if groups else ()


def _warm_up(run: Run, at: int) -> int:
    """The updates before the learning rate has reached its peak, which no law describes."""
    rates = rates_of(run)[:at]
    return rates.index(max(rates)) if rates else 0


def _decrease_per_doubling(curve: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """By how much the loss falls for each doubling of the steps, by least squares, and the upper limit of that."""
    if len(curve) < FEWEST_POINTS or not all(math.isfinite(loss) for _, loss in curve):
        return math.nan, math.nan
    from scipy.special import stdtrit

    doublings = [math.log2(step) for step, _ in curve]
    losses = [loss for _, loss in curve]
    slope, start = statistics.linear_regression(doublings, losses)
    squares = math.fsum((y - start - slope * x) ** 2 for x, y in zip(doublings, losses, strict=True))
    middle = statistics.fmean(doublings)
    spread = math.fsum((x - middle) ** 2 for x in doublings)
    error = math.sqrt(squares / (len(curve) - 2) / spread)
    return -slope, -slope + float(stdtrit(len(curve) - 2, CONFIDENCE)) * error
