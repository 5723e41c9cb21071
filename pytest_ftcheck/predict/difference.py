"""What has changed between two predictions of a training step: by how much, of what, in which module, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..explained import Findings
from ..report.units import size
from .causes import causes
from .cost import Cost
from .prediction import SAVED, Held, Prediction

# Moments of a prediction, as they are spoken of.
WHEN = {"forward": "in forward", SAVED: "after forward", "backward": "in backward", "optimizer": "in optimizer"}
CATEGORIES = ("weights", "gradients", "optimizer", "activations")

# (category, operation) -> what its result is, where the operation's name alone does not say it.
KEPT = {
    ("activations", "aten::_to_copy"): "keeps a {dtype} copy of its input",
    ("activations", "aten::native_dropout"): "keeps what dropout needs",
    ("temporaries", "aten::_to_copy"): "holds a {dtype} copy",
}


def differences(before: Prediction | Cost, after: Prediction | Cost) -> Findings:
    """Every difference, a line each: the totals, then what is held by category and module with the largest change
    first, then what it may come from. Empty where both cost the same; other versions alone are no difference.
    """
    old, new = Cost.of(before), Cost.of(after)
    found = facts(old, new)
    return Findings([*found, *(f"likely cause: {cause}" for cause in causes(old, new) if found)])


def facts(before: Cost, after: Cost) -> tuple[str, ...]:
    """The differences without their causes."""
    if before.equals(after):
        return ()
    held = [change.line for change in changes(before, after)]
    return *_totals(before, after), *held, *_circumstances(before, after)


@dataclass(frozen=True)
class Change:
    """One kind of storage, and how much of it is held at the highest point of ``phase``; a ``count`` of 0 is none."""

    phase: str
    before: Held
    after: Held

    @property
    def bytes(self) -> int:
        return self.after.bytes - self.before.bytes

    @property
    def line(self) -> str:
        one = self.after if self.after.count else self.before
        owner = f"`{one.module}`" if one.module else "the training step"
        kept = KEPT.get((one.category, one.op), "").format(dtype=one.dtype)
        counts = f"{self.after.count} x {one.op}, {one.dtype}"
        counts += f"; before {self.before.count}" if self.before.count != self.after.count else ""
        return f"{one.category} {signed(self.bytes)} {WHEN[self.phase]}: {owner} {kept + ' ' if kept else ''}({counts})"


def changes(before: Cost, after: Cost) -> tuple[Change, ...]:
    """What is held in other amounts, each kind in the phase in which it changed most, the largest change first."""
    most: dict[Held, Change] = {}
    for phase in _by_importance(after):
        old, new = _held(before, after, phase), _held(after, before, phase)
        for kind in sorted(old.keys() | new.keys(), key=_order):
            change = Change(phase, old.get(kind, kind), new.get(kind, kind))
            if change.before != change.after and (kind not in most or abs(change.bytes) > abs(most[kind].bytes)):
                most[kind] = change
    return tuple(sorted(most.values(), key=lambda change: -abs(change.bytes)))


def _by_importance(cost: Cost) -> tuple[str, ...]:
    """The phase of the peak first."""
    return tuple(sorted(WHEN, key=lambda phase: phase != cost.memory.peak_phase))


def _held(cost: Cost, other: Cost, phase: str) -> dict[Held, Held]:
    """Kind, as a ``Held`` of nothing -> how much of it ``cost`` holds at the highest point of ``phase``.

    Where ``other`` has no such point, since nothing was allocated then, only what was allocated for the moment counts.
    """
    held = [held for moment in cost.moments if moment.phase == phase for held in moment.held]
    if not any(moment.phase == phase for moment in other.moments):
        held = [one for one in held if one.category == "temporaries"]
    return {replace(one, count=0, bytes=0): one for one in held}


def _order(kind: Held) -> tuple[str, ...]:
    return kind.category, kind.module, kind.op, kind.dtype


def _totals(old: Cost, new: Cost) -> Iterator[str]:
    before, after = old.memory.peak_bytes, new.memory.peak_bytes
    if before != after:
        share = f" ({after / before - 1:+.2%})" if before else ""
        yield f"peak {signed(after - before)}{share}: {before:,} -> {after:,} B, {_phases(old, new)}"
    yield from _flops(old, new)
    rises = {name: getattr(new.memory, f"{name}_bytes") - getattr(old.memory, f"{name}_bytes") for name in CATEGORIES}
    yield from _listed("most of each category at any time", rises)
    at = [{moment.phase: moment.bytes for moment in cost.moments} for cost in (old, new)]
    both = [phase for phase in WHEN if phase in at[0] and phase in at[1]]
    yield from _listed("highest points", {WHEN[p].removeprefix("in "): at[1][p] - at[0][p] for p in both})
    names = ("allocated", "reserved")
    rises = {name: getattr(new, f"{name}_bytes") - getattr(old, f"{name}_bytes") for name in names}
    yield from _listed("allocator", rises)


def _phases(old: Cost, new: Cost) -> str:
    before, after = old.memory.peak_phase, new.memory.peak_phase
    return f"in {after}" if before == after else f"in {after}, before in {before}"


def _listed(what: str, rises: dict[str, int]) -> Iterator[str]:
    """One line for what is not zero, the largest first."""
    changed = sorted((name for name in rises if rises[name]), key=lambda name: -abs(rises[name]))
    if changed:
        yield f"{what}: {', '.join(f'{name} {signed(rises[name])}' for name in changed)}"


def _flops(old: Cost, new: Cost) -> Iterator[str]:
    for phase in ("forward", "backward", "optimizer"):
        before, after = getattr(old.flops, phase), getattr(new.flops, phase)
        if before != after:
            share = f" ({after / before - 1:+.2%})" if before else ""
            yield f"FLOPs {phase} {after - before:+,}{share}: {before:,} -> {after:,}"


def _circumstances(old: Cost, new: Cost) -> Iterator[str]:
    """What a cost depends on and is no cost itself."""
    for name in ("declaration", "gpu", "backend", "dtype", "batch_size", "accumulation", "tokens"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    for package in sorted(old.versions.keys() | new.versions.keys()):
        versions = [cost.versions.get(package, "absent") for cost in (old, new)]
        if versions[0] != versions[1]:
            yield f"{package}: {versions[0]} -> {versions[1]}"


def signed(difference: int) -> str:
    """``+412 MB``."""
    return f"{'-' if difference < 0 else '+'}{size(abs(difference))}"
