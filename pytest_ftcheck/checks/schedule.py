"""Checks of the learning rate's schedule: it steps once an update, after the optimizer, as long as the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rates import group_rates
from ..evidence.scripts import refuse_undeclared
from .check import Finding, check
from .sabotages.schedule import (
    SCHEDULE_BEFORE_OPTIMIZER,
    SCHEDULE_NEVER_STEPPED,
    SCHEDULE_OVER_MICRO_BATCHES,
    SCHEDULE_PER_MICRO_BATCH,
    SCHEDULE_TOO_SHORT,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace

# A rate below this share of the peak trains nothing.
NOTHING = 1e-3
# How far two schedules of the same updates may be apart, relative to their peak: a total that was rounded up to whole
# epochs differs by an update or two of eight. One computed from micro-batches is 0.4 apart and more.
APART = 0.2


@check(
    "schedule-steps-once-an-update",
    "schedule",
    "the learning rate changes once an update, and not with every micro-batch",
    controls=[SCHEDULE_PER_MICRO_BATCH],
    catches=[
        "https://github.com/huggingface/accelerate/issues/963",
        "https://github.com/huggingface/diffusers/issues/4387",
    ],
)
def schedule_steps_once_an_update(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    inside = _updates_with_changing_rates(trace)
    often = _updates_with_many_steps(trace)
    if inside:
        yield Finding(
            summary=f"the learning rate changes between micro-batches in {len(inside)} of {len(trace.updates)} updates",
            cause="scheduler.step() is called for every micro-batch: the schedule ends after "
            f"1/{evidence.standard.job.accumulation} of the training",
            remedy="call scheduler.step() once, after optimizer.step()",
            evidence=(inside[0],),
        )
    elif often:
        yield Finding(
            summary=f"the schedule steps more than once in {len(often)} of {len(trace.updates)} updates",
            cause="scheduler.step() is called for every micro-batch, or by the loop and by a library besides",
            remedy="call scheduler.step() once, after optimizer.step()",
            evidence=(f"steps of the schedule in these updates: {', '.join(map(str, often[:8]))}",),
        )


def _updates_with_changing_rates(trace: Trace) -> list[str]:
    found = []
    # At the first backward pass no optimizer is known yet.
    for number, update in enumerate(trace.updates[1:], start=2):
        rates = [backward.lr for backward in update.backwards if len(backward.lr) == len(update.lr)]
        moving = next((i for i in range(len(update.lr)) if len({one[i] for one in rates}) > 1), None)
        if moving is not None:
            found.append(f"update {number}: {', '.join(f'{one[moving]:.4g}' for one in rates)}")
    return found


def _updates_with_many_steps(trace: Trace) -> list[int]:
    """How many steps an only schedule makes between two updates, where it is more than one."""
    if len(trace.schedules) != 1:
        return []
    counts = Counter(updates for updates, _ in trace.schedule_steps)
    return [count for updates, count in counts.items() if count > 1 and updates < len(trace.updates)]


@check(
    "schedule-follows-the-optimizer",
    "schedule",
    "a schedule that was built is stepped, after the optimizer, and is built once",
    controls=[SCHEDULE_NEVER_STEPPED, SCHEDULE_BEFORE_OPTIMIZER],
    catches=["https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"],
)
def schedule_follows_the_optimizer(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    later = [updates for updates in trace.schedules if updates > 0]
    if not trace.schedules:
        raise NotApplicable("no learning rate schedule of torch was built")
    if later:
        yield Finding(
            summary=f"the schedule is built anew {len(later)} times during the training, first after update {later[0]}",
            cause="it is built inside the loop over epochs, so that warm-up and decay begin again",
            remedy="build the schedule once, before the loop, for the updates of all epochs",
        )
    elif not trace.schedule_steps:
        yield from _never_stepped(trace)
    elif not _updates_with_changing_rates(trace) and not _updates_with_many_steps(trace):
        early = [updates for updates, backwards in trace.schedule_steps if backwards > 0 or updates == 0]
        if len(early) > len(trace.schedule_steps) / 2:
            yield Finding(
                summary=f"the schedule steps before the optimizer in {len(early)} of {len(trace.updates)} updates",
                cause="scheduler.step() is called before optimizer.step(): the schedule's first rate is never used",
                remedy="call optimizer.step(), then scheduler.step()",
            )


def _never_stepped(trace: Trace) -> Iterator[Finding]:
    """Of a schedule by epochs no step is due before an epoch has passed; one that is stuck below its base is due."""
    group = group_rates(trace)[0]
    is_stuck = group.base is not None and group.is_constant and group.peak < group.base * (1 - 1e-6)
    if is_stuck or _has_repeated_rows(trace):
        yield Finding(
            summary=f"0 steps of the schedule in {len(trace.updates)} updates: the rate stays at {group.peak:.4g}",
            cause="scheduler.step() is missing from the loop",
            remedy="call scheduler.step() after each optimizer.step()",
        )


def _has_repeated_rows(trace: Trace) -> bool:
    from ..evidence.rows import row_keys

    seen = Counter(key for forward in trace.forwards for key in row_keys(forward))
    return bool(seen) and max(seen.values()) > 1


@check(
    "schedule-lasts-to-the-end",
    "schedule",
    "the learning rate does not reach 0 before the training ends",
    controls=[SCHEDULE_TOO_SHORT],
    catches=["https://github.com/huggingface/accelerate/issues/2926"],
)
def schedule_lasts_to_the_end(evidence: Evidence) -> Iterator[Finding]:
    groups = group_rates(evidence.trace)
    if not groups:
        raise NotApplicable("the optimizer's groups show no learning rate")
    rates, peak = groups[0].rates, groups[0].peak
    if not peak > 0:
        return
    if groups[0].is_constant:
        yield from _falls_off(evidence.trace, peak)
        return
    # Warm-up may begin at 0, and the last update may be made at it.
    risen = rates.index(peak)
    idle = [number for number, rate in enumerate(rates, start=1) if number > risen and rate < NOTHING * peak]
    if len(idle) > 1 or (idle and idle[0] < len(rates)):
        yield Finding(
            summary=f"the learning rate is 0 or less in {len(idle)} of {len(rates)} updates, from update {idle[0]} on",
            cause="the schedule was built for fewer updates than are made, or steps more often than once an update",
            remedy="give the schedule the number of optimizer updates of the whole training",
            evidence=(f"rates: {', '.join(f'{rate:.3g}' for rate in rates)}",),
        )


def _falls_off(trace: Trace, peak: float) -> Iterator[Finding]:
    """A rate that is the same in all updates and 0 when they have been made."""
    if len(trace.schedules) != 1 or len(trace.updates) < 2:
        return
    left = float(next((g["lr"] for one in trace.optimizers for g in one.param_groups if g["params"]), peak))
    if left < NOTHING * peak:
        yield Finding(
            summary=f"the learning rate is {peak:.4g} in all {len(trace.updates)} updates, and {left:.4g} after them",
            cause="the schedule's function divides whole numbers (step // steps): its decay comes in one step, after "
            "the end",
            remedy="divide as floats: 1 - step / steps",
        )


@check(
    "schedule-counts-updates",
    "schedule",
    "the learning rate of each update does not depend on how many micro-batches the updates are made of",
    controls=[SCHEDULE_OVER_MICRO_BATCHES],
    catches=[
        "https://github.com/huggingface/diffusers/issues/3954",
        "https://github.com/huggingface/accelerate/issues/2926",
    ],
    cost="training",
)
def schedule_counts_updates(evidence: Evidence) -> Iterator[Finding]:
    refuse_undeclared(evidence, "accumulation")
    declared = evidence.standard.job.accumulation
    if all(group.is_constant for group in group_rates(evidence.trace)):
        return
    other = 1 if declared > 1 else 2
    varied = evidence.varied(accumulation=other)
    ours, theirs = (group_rates(trace)[0].rates for trace in (evidence.trace, varied.trace))
    if _changes_by_epochs(ours) or _changes_by_epochs(theirs) or len(ours) != len(theirs):
        raise NotApplicable("the learning rate changes with the epochs, which the accumulation makes longer or shorter")
    peak = max(*ours, *theirs)
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / peak if peak > 0 else 0.0
    if not apart <= APART:
        yield Finding(
            summary=f"with an accumulation of {other} in place of {declared} the learning rate of the same update is "
            f"{apart:.0%} of the peak apart",
            cause="the schedule's length is counted in micro-batches (len(loader) x epochs) and its steps in updates, "
            "or the reverse: it never decays, or ends too early",
            remedy="divide the number of micro-batches by the accumulation for the schedule's number of updates",
            evidence=(
                f"accumulation {declared}: {', '.join(f'{rate:.3g}' for rate in ours)}",
                f"accumulation {other}: {', '.join(f'{rate:.3g}' for rate in theirs)}",
            ),
        )


def _changes_by_epochs(rates: tuple[float, ...]) -> bool:
    """Whether it keeps a rate for several updates, and then has another."""
    return 1 < len(set(rates)) <= len(rates) / 2
