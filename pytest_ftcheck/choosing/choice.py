"""Full fine-tuning, an adapter, either, or too early to tell: a decision by measured curves.

Three questions, in this order. May the curves be compared yet, or is one of them still on its way? Are there enough
seeds to tell the arms apart? Is the gap more than what full fine-tuning costs? A threshold of model size or of time is
not among them: docs/decision.md has what those rules of thumb miss.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..errors import ComparisonError
from ..interval import student
from ..order import CONFIDENCE, Gap
from ..run import Run
from .settling import PLATEAU, Settling, settling
from .stakes import Stakes

if TYPE_CHECKING:
    from ..pair import Pair

FULL, LORA, EITHER, TOO_EARLY = "full", "lora", "either", "too early to tell"
# Nats that nobody minds, where it is not said what they are worth.
MARGIN = 0.01
# How far a curve is followed beyond what was measured.
FURTHEST, FURTHER = 64, 4
MOST_SEEDS = 50


@dataclass(frozen=True)
class Choice(Record):
    """``verdict`` is ``"full"``, ``"lora"``, ``"either"`` or ``"too early to tell"``, by the losses after ``at``
    updates. ``run_to``: the step, and ``seeds``: their number, at which it may be told; None where that is not lacking.

    ``gap`` is LoRA's loss minus full's (nats, 98 % interval over paired seeds), ``break_even`` the gap from which on
    full fine-tuning pays, and ``margin`` what is not minded on either side of that. ``risk`` is the probability that
    the other arm was the right one, judging by the seeds; NaN where no arm was chosen. ``floor`` is the known one.
    """

    verdict: str
    reason: str
    at: int
    run_to: int | None
    seeds: int | None
    gap: Gap
    break_even: float
    margin: float
    risk: float
    full: Settling
    lora: Settling
    floor: float | None
    stakes: Stakes | None

    def __repr__(self) -> str:
        # pytest prints the representation where a choice is the message of an assert.
        return f"{self.verdict}: {self.reason}"


def choose(
    pair: Pair, at: int, margin: float | None = None, floor: float | None = None, stakes: Stakes | None = None
) -> Choice:
    """Choose an arm of ``pair`` by what was measured up to step ``at``.

    ``margin`` (nats; 0.01, or 0 with stakes) is what is not minded. ``floor`` is the loss that no model can be below,
    where it is known. Raises ComparisonError for arms that saw different batches, a loss that is not finite, a single
    seed, and a margin or floor that is no such number.
    """
    margin = _checked(margin if margin is not None else 0.0 if stakes else MARGIN, "margin", least=0.0)
    floor = None if floor is None else _checked(floor, "floor", least=-math.inf)
    gap = _gap(pair, at)
    full, lora = settling(pair.fulls, at), settling(pair.loras, at)
    arrived = [floor is not None and _has_arrived(runs, at, floor, margin) for runs in (pair.fulls, pair.loras)]
    unsettled = [arm for arm, there in zip((full, lora), arrived, strict=True) if not (there or arm.at_rest)]
    break_even = stakes.break_even if stakes else 0.0
    run_to = seeds = None
    if unsettled and not (arrived[1] and break_even >= 0):
        verdict, run_to = TOO_EARLY, _step_to_run_to(pair, at, unsettled)
        which = " and ".join(name for name, arm in (("full", full), ("LoRA", lora)) if arm in unsettled)
        reason = f"run to step {run_to}: {which} not at rest at step {at} ({unsettled[0].reason})"
    else:
        verdict = _verdict(gap, break_even, margin)
        if verdict == TOO_EARLY:
            seeds = _seeds_needed(gap, break_even, margin, len(pair.fulls))
        reason = _reason(gap, break_even, margin, len(pair.fulls), seeds)
    risk = _risk(pair, at, verdict, break_even)
    return Choice(verdict, reason, at, run_to, seeds, gap, break_even, margin, risk, full, lora, floor, stakes)


def _gap(pair: Pair, at: int) -> Gap:
    if not pair.paired:
        raise ComparisonError("the arms saw different batches, so their losses are not paired and decide nothing")
    if len(pair.fulls) < 2:
        raise ComparisonError("1 seed shows no spread; allowed: at least 2, better 3 (--ftcheck-seeds=3)")
    try:
        gap = next(one for one in pair.loss_order(at=at).gaps if one.step == at)
    except ValueError as error:
        raise ComparisonError(str(error)) from None
    if not (math.isfinite(gap.full) and math.isfinite(gap.lora)):
        raise ComparisonError(f"a loss at step {at} is not finite: full {gap.full:.4g}, LoRA {gap.lora:.4g}")
    return gap


def _verdict(gap: Gap, break_even: float, margin: float) -> str:
    """An adapter that is not worse by what matters suffices; that full fine-tuning is better has to be shown."""
    low, high = gap.low - break_even, gap.high - break_even
    if low > margin:
        return FULL
    if high > margin or (high == margin == low):
        return TOO_EARLY
    return EITHER if low > -margin else LORA


def _has_arrived(runs: tuple[Run, ...], at: int, floor: float, margin: float) -> bool:
    """Whether nothing that matters is left to be gained above the known floor."""
    return student([run.loss.at(at) - floor for run in runs], CONFIDENCE).high <= max(margin, PLATEAU)


def _step_to_run_to(pair: Pair, at: int, unsettled: list[Settling]) -> int:
    """Where the curves may be at rest: the end of their schedule if it is further, else by their laws."""
    if pair.full.steps > at:
        return pair.full.steps
    steps = [
        arm.law.step_of_decrease(PLATEAU) if arm.law is not None and not arm.law.refused else FURTHER * at
        for arm in unsettled
    ]
    return _rounded(min(max(*steps, 2.0 * at), FURTHEST * at))


def _rounded(steps: float) -> int:
    """To two digits: a prediction has no more."""
    unit = 10 ** max(0, math.floor(math.log10(steps)) - 1)
    return int(math.ceil(steps / unit) * unit)


def _seeds_needed(gap: Gap, break_even: float, margin: float, seeds: int) -> int | None:
    """How many seeds probably tell: the interval narrows with their root. None where the gap is at the very limit."""
    distance = abs(gap.mean - break_even - margin)
    half = (gap.high - gap.low) / 2
    needed = math.inf if distance == 0 else seeds * (half / distance) ** 2
    return None if needed > MOST_SEEDS else max(seeds + 1, math.ceil(needed))


def _risk(pair: Pair, at: int, verdict: str, break_even: float) -> float:
    """The probability, by Student's distribution, that the gap is on the other side of the break-even."""
    if verdict not in (FULL, LORA):
        return math.nan
    from scipy.special import stdtr

    gaps = [b.loss.at(at) - a.loss.at(at) - break_even for a, b in zip(pair.fulls, pair.loras, strict=True)]
    mean, error = statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
    towards = mean if verdict == FULL else -mean
    return float(towards < 0) if error == 0 else float(stdtr(len(gaps) - 1, -towards / error))


def _reason(gap: Gap, break_even: float, margin: float, count: int, seeds: int | None) -> str:
    ahead = "full" if gap.mean > 0 else "LoRA"
    text = f"{ahead} leads by {abs(gap.mean):.4g} nats at step {gap.step} "
    text += f"(LoRA minus full {gap.low:+.4g} to {gap.high:+.4g}, {count} paired seeds)"
    if break_even:
        text += f"; full pays from {break_even:+.4g} on"
    if margin:
        text += f"; margin {margin:.4g}"
    if seeds is not None:
        text += f"; about {seeds} seeds would tell"
    return text


def _checked(value: float, name: str, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= least):
        allowed = "a number of nats" + (f" of at least {least:g}" if math.isfinite(least) else "")
        raise ComparisonError(f"decision({name}={value!r}); allowed: {allowed}")
    return float(value)
