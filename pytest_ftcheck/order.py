"""Which arm has the lower loss at a horizon, and whether that may be said yet.

An ordering is a claim about a step, the learning rates, the rank and the seeds. It is decided on *paired* differences
(same seed, same batches in both arms), whose spread is several times smaller than that of two separate runs. An order
that later measurements of the same runs reverse is not decided, however clear it looks at the step.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .codec import Record
from .explained import Winner
from .interval import student
from .run import Losses, Run

# One-sided 1 % at either end: a wrong winner in one of a hundred builds at worst, before any margin.
CONFIDENCE = 0.98


@dataclass(frozen=True)
class Gap(Record):
    """The losses of both arms at one step (nats, means over seeds), and that of LoRA minus that of full: its mean over
    the paired seeds and its confidence interval.
    """

    step: int
    full: float
    lora: float
    mean: float
    low: float
    high: float

    def leader(self, margin: float = 0.0) -> str | None:
        """The arm that is ahead by more than ``margin`` beyond the interval; None where neither is."""
        if self.low > margin:
            return "full"
        if self.high < -margin:
            return "lora"
        return None


@dataclass(frozen=True)
class LossOrder(Record):
    """The verdict at step ``at``, with the gap at every step that was measured.

    ``crossover`` is the step at which the lead last changed hands (interpolated), None if it never did.
    """

    at: int
    verdict: str
    reason: str
    gap: float
    ci: tuple[float, float]
    crossover: int | None
    margin: float
    seeds: tuple[int, ...]
    declarations: tuple[str, str]
    gaps: tuple[Gap, ...]

    @property
    def winner(self) -> Winner:
        """``"full"``, ``"lora"`` or ``"undecided"``."""
        return Winner(self.verdict, self)

    def __repr__(self) -> str:
        # pytest prints the representation where an order is the message of an assert.
        return self.reason


def loss_order(fulls: Sequence[Run], loras: Sequence[Run], at: int, margin: float = 0.0) -> LossOrder:
    """Order two arms by their loss after ``at`` updates; ``fulls[i]`` and ``loras[i]`` share a seed.

    ``margin`` (nats) is how much better an arm must be to win. ValueError where no loss was measured at ``at``.
    """
    gaps = tuple(_gap(step, fulls, loras) for step in _steps(fulls[0].loss, at))
    here = next(gap for gap in gaps if gap.step == at)
    later = next((g.leader(margin) for g in reversed(gaps) if g.step > at and g.leader(margin)), None)
    crossover = _crossover(gaps)
    verdict = here.leader(margin) or "undecided"
    if later and _ahead(here) != later:
        verdict = "undecided"
    if not paired(fulls, loras):
        verdict = "undecided"
    return LossOrder(
        at=at,
        verdict=verdict,
        reason=_reason(verdict, here, gaps[-1], crossover, margin, fulls, loras),
        gap=here.mean,
        ci=(here.low, here.high),
        crossover=crossover,
        margin=margin,
        seeds=tuple(run.seed for run in fulls),
        declarations=(fulls[0].declaration, loras[0].declaration),
        gaps=gaps,
    )


def paired(fulls: Sequence[Run], loras: Sequence[Run]) -> bool:
    """Whether both arms of every seed were fed the same batches in the same order."""
    return all(a.loss.batches == b.loss.batches and a.seed == b.seed for a, b in zip(fulls, loras, strict=True))


def divided(fulls: Sequence[Run], loras: Sequence[Run]) -> str:
    """How the rows of an update were divided in either arm, where runs differ in it; empty where they do not."""
    arms = [sorted({(run.batch_size, run.accumulation) for run in runs}) for runs in (fulls, loras)]
    if len({split for arm in arms for split in arm}) == 1:
        return ""
    texts = [" and ".join(f"{rows} rows x {times}" for rows, times in arm) for arm in arms]
    why = " (retried after out of memory)" if any(run.retried for run in (*fulls, *loras)) else ""
    return f"updates of full were {texts[0]}, of LoRA {texts[1]}{why}"


def _steps(loss: Losses, at: int) -> list[int]:
    """Steps to measure the gap at: those of the evaluations, or a doubling grid over the training losses."""
    if loss.eval:
        steps = {step for step, _ in loss.eval}
    else:
        horizon = len(loss.train)
        steps = {min(2**i, horizon) for i in range(horizon.bit_length() + 1)}
    loss.at(at)  # raises, and says where there are measurements
    return sorted(steps | {at})


def _gap(step: int, fulls: Sequence[Run], loras: Sequence[Run]) -> Gap:
    full, lora = [run.loss.at(step) for run in fulls], [run.loss.at(step) for run in loras]
    between = student([b - a for a, b in zip(full, lora, strict=True)], CONFIDENCE)
    return Gap(step, statistics.fmean(full), statistics.fmean(lora), between.estimate, between.low, between.high)


def _ahead(gap: Gap) -> str:
    return "full" if gap.mean > 0 else "lora"


def _crossover(gaps: Sequence[Gap]) -> int | None:
    """The last change of sign between two steps at which one arm was clearly ahead, on a logarithmic step axis."""
    clear = [gap for gap in gaps if gap.leader() and gap.step > 0]
    changes = [(a, b) for a, b in itertools.pairwise(clear) if a.leader() != b.leader()]
    if not changes:
        return None
    first, last = changes[-1]
    between = [gap for gap in gaps if first.step <= gap.step <= last.step and math.isfinite(gap.mean)]
    a, b = next((a, b) for a, b in itertools.pairwise(between) if _ahead(a) == _ahead(first) != _ahead(b))
    share = a.mean / (a.mean - b.mean)
    return round(math.exp(math.log(a.step) + share * (math.log(b.step) - math.log(a.step))))


def _reason(
    verdict: str,
    here: Gap,
    last: Gap,
    crossover: int | None,
    margin: float,
    fulls: Sequence[Run],
    loras: Sequence[Run],
) -> str:
    if not math.isfinite(here.mean):
        return f"undecided: a loss at step {here.step} is not finite (full {here.full:.4g}, LoRA {here.lora:.4g})"
    if not paired(fulls, loras):
        how = divided(fulls, loras)
        seen = f"the arms saw different batches{f' ({how})' if how else ''}, so their losses are not paired"
        return f"undecided: {seen}; {_lead(here)}"
    if len(fulls) < 2:
        return f"undecided: {_lead(here)}, but one seed shows no spread; use 3 or more (--ftcheck-seeds=3)"
    text = f"{_lead(here)} ({_interval(here, margin)}, {len(fulls)} paired seeds)"
    text += f"; the crossover is at step {crossover}" if crossover else ""
    if last.step > here.step and math.isfinite(last.mean) and _ahead(last) != _ahead(here):
        text += f", and {_lead(last)}"
    return f"undecided: {text}" if verdict == "undecided" else text


def _lead(gap: Gap) -> str:
    if gap.mean == 0:
        return f"at step {gap.step} both arms have the same loss"
    return f"at step {gap.step} {'full' if gap.mean > 0 else 'LoRA'} leads by {abs(gap.mean):.4g}"


def _interval(gap: Gap, margin: float) -> str:
    """The interval of the lead, as the arm that is ahead sees it: a clear lead is above 0, and above the margin."""
    low, high = (gap.low, gap.high) if gap.mean >= 0 else (-gap.high, -gap.low)
    return f"interval {low:.4g} to {high:.4g}" + (f", margin {margin:.4g}" if margin else "")
