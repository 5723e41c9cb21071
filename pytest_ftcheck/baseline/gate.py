"""The gate: what is seen, beside what is recorded. Pure; it returns a comparison of every metric, and stops at none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..theory.differences import first_few
from .comparison import Comparison, changed, limited, of_new, shown, shown_both
from .curves import compare_curves
from .fingerprint import Fingerprint
from .metric import Curve, Direction, Metric, Names
from .rules import OF_A_MACHINE, Chosen, Tolerances

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Recorded:
    """The baseline of a test: its metrics by name, and where they were seen."""

    metrics: Mapping[str, Metric]
    fingerprint: Fingerprint


def compare(
    recorded: Recorded, seen: Sequence[Metric], now: Fingerprint, tolerances: Tolerances
) -> tuple[Comparison, ...]:
    """Each metric of ``seen`` beside its baseline. Metrics of ``recorded`` that are not seen are not looked at."""
    return tuple(_compare_one(recorded, metric, now, tolerances) for metric in seen)


def _compare_one(recorded: Recorded, metric: Metric, now: Fingerprint, tolerances: Tolerances) -> Comparison:
    before = recorded.metrics.get(metric.name)
    if before is None:
        return of_new(metric)
    if metric.unlike:
        # Without its value: no history is to have it either.
        return replace(_not_comparable(before, metric, metric.unlike), value=None)
    chosen = tolerances.of(metric, before)
    if not metric.finite:
        text = shown(metric.value, metric.unit)
        return Comparison.of(metric, "failed", shown(before.value, before.unit), text, note="it is no number")
    if metric.kind in OF_A_MACHINE and not recorded.fingerprint.same_machine(now):
        return _not_comparable(before, metric, "recorded on another machine")
    if type(before.value) is not type(metric.value) and not _are_numbers(before, metric):
        return _failed(before, metric, note="it is of another kind than its baseline")
    if before.unit != metric.unit:
        return _failed(before, metric, note=f"its unit was {before.unit or 'none'}, and is {metric.unit or 'none'}")
    if isinstance(before.value, Curve) and isinstance(metric.value, Curve):
        bits = recorded.fingerprint.same_bits(now) and recorded.fingerprint.repeats_itself
        return compare_curves(before, metric, chosen, bits)
    if isinstance(before.value, Names) and isinstance(metric.value, Names):
        return _compare_names(metric, before.value, metric.value)
    if isinstance(before.value, str) and isinstance(metric.value, str):
        return _compare_words(before, metric)
    return compare_numbers(before, metric, chosen)


def compare_numbers(before: Metric, metric: Metric, chosen: Chosen) -> Comparison:
    """One number beside another."""
    assert isinstance(before.value, (int, float))
    assert isinstance(metric.value, (int, float))
    tolerance = chosen.tolerance
    direction = tolerance.direction or metric.direction
    texts = shown_both(before.value, metric.value, metric.unit)
    difference, allowed = metric.value - before.value, tolerance.allowed(before.value)
    return Comparison.of(
        metric,
        judged(difference, allowed, direction, tolerance.warns),
        *texts,
        change=changed(before.value, metric.value, metric.unit),
        limit=limited(tolerance, direction, metric.unit),
    )


def judged(difference: float, allowed: float, direction: Direction, warns: bool) -> str:
    """The verdict on a difference for the worse, for the better, or of no account. What is no number fails."""
    worse = {"lower": difference, "higher": -difference, "same": abs(difference)}[direction]
    if not worse <= allowed:
        return "warning" if warns and not math.isnan(worse) else "failed"
    # What only warns is noisy: a good day makes no baseline stale.
    return "stale" if -worse > allowed and not warns else "passed"


def _compare_words(before: Metric, metric: Metric) -> Comparison:
    old, new = str(before.value), str(metric.value)
    if old == new:
        return Comparison.of(metric, "passed", old, new, limit="equal")
    # An order that is only just decided is decided by noise in the other of two runs; one that is turned round is not.
    only_just = metric.kind == "loss_order" and UNDECIDED in (old, new)
    return Comparison.of(metric, "warning" if only_just else "failed", old, new, limit="equal")


def _compare_names(metric: Metric, before: Names, now: Names) -> Comparison:
    if before == now:
        return Comparison.of(metric, "passed", *_totals(before, now), limit="equal")
    kinds = sorted(before.groups.keys() | now.groups.keys())
    counts = [(kind, before.groups.get(kind, 0), now.groups.get(kind, 0)) for kind in kinds]
    lines = [f"{kind}: {old} -> {new}" for kind, old, new in counts if old != new]
    note = first_few(lines) if lines else "other layers than before, as many of each kind"
    return Comparison.of(metric, "failed", *_totals(before, now), limit="equal", note=note)


def _totals(before: Names, now: Names) -> tuple[str, str]:
    return shown(before, ""), shown(now, "")


def _are_numbers(*metrics: Metric) -> bool:
    return all(isinstance(metric.value, (int, float)) for metric in metrics)


def _failed(before: Metric, metric: Metric, note: str) -> Comparison:
    texts = shown(before.value, before.unit), shown(metric.value, metric.unit)
    return Comparison.of(metric, "failed", *texts, note=note)


def _not_comparable(before: Metric, metric: Metric, note: str) -> Comparison:
    texts = shown(before.value, before.unit), shown(metric.value, metric.unit)
    return Comparison.of(metric, "not comparable", *texts, note=note)
