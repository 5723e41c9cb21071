"""What a report says of a sweep: the settings of LoRA that were tried, drawn and in a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...sweeping.sweep import Setting, Sweep
from .blocks import ROWS, Block, Group, Heading, Lines, Points, Table


def settings(sweep: Sweep, drawn: bool) -> Iterator[Block]:
    """The part of one sweep."""
    yield Heading(f"{sweep.recipe}: other settings of LoRA")
    yield Lines([repr(sweep)])
    shown = [one for one in sweep.settings if _can_be_drawn(one)]
    if drawn and shown:
        yield _points(sweep, shown)
    yield _table(sweep)


def _points(sweep: Sweep, shown: list[Setting]) -> Points:
    stages = dict.fromkeys(one.stage for one in shown)
    groups = []
    for stage in stages:
        those = [one for one in shown if one.stage == stage]
        sizes, losses = [float(one.trainable) for one in those], [one.loss for one in those]
        groups.append(Group(stage, sizes, losses, [one.label for one in those]))
    best = next((f"{one.label}: {one.loss:.4g} with {one.trainable:,}" for one in shown if one.label == sweep.best), "")
    told = f"Full trains {sweep.parameters:,} parameters and comes to {sweep.full_loss:.4g} nats. Best: {best}."
    left_out = len(sweep.settings) - len(shown)
    told += f" Not drawn: {left_out} of {len(sweep.settings)}, which came to no loss." if left_out else ""
    return Points("Loss over trainable parameters", groups, sweep.best, ("full", sweep.full_loss), told)


def _can_be_drawn(one: Setting) -> bool:
    return math.isfinite(one.loss) and one.trainable > 0


def _table(sweep: Sweep) -> Table:
    rows = [[one.label, one.failed or one.changed, *_numbers(one)] for one in sweep.settings[:ROWS]]
    return Table(f"Tried, from seed 0; best: {sweep.best}", ["setting", "changed", "loss", "trainable"], rows, texts=2)


def _numbers(one: Setting) -> list[str]:
    """A setting that failed has none."""
    return ["-", "-"] if one.failed else [f"{one.loss:.4g}", f"{one.trainable:,}"]
