"""The comparison of full fine-tuning and adapters at the end of a session."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from ..account import deviations, objections
from ..pair import Pair
from ..run import Run
from .curve import sparklines
from .table import table
from .units import duration, operations, size

# Of a curve in the table.
BARS = 12
# The step at which the project's founding example compared, and so many people do.
EARLY_STEP = 30

Arm = list[Run]


def write_summary(reporter: Any, texts: Sequence[str]) -> None:
    """Write a table for each recipe among the runs (in JSON), its comparisons, and deviations from declarations; with
    ``-q`` nothing but those.
    """
    recipes = group([Run.from_json(text) for text in dict.fromkeys(texts)])
    quiet = reporter.verbosity < 0
    if quiet and not any(_deviation_lines(arm) for recipe in recipes for arm in recipe):
        return
    # A log has lines of any length; what is wider than a screen is broken where it hurts.
    width = reporter._tw.fullwidth if reporter.isatty else None
    reporter.write_sep("=", "ftcheck: full fine-tuning and LoRA")
    for recipe in recipes:
        for line in [] if quiet else recipe_lines(recipe, width):
            reporter.write_line(line)
        for arm in recipe:
            for line in _deviation_lines(arm):
                reporter.write_line(line, yellow=True)


def group(runs: Sequence[Run]) -> list[list[Arm]]:
    """The runs by recipe and, within, by method; full first, then by what trains; seeds in order, each seed once."""
    recipes: dict[tuple[Any, ...], dict[tuple[str, str], dict[int, Run]]] = {}
    for run in runs:
        arms = recipes.setdefault((run.recipe, run.steps, run.environment.device), {})
        arms.setdefault((run.title, run.declaration), {})[run.seed] = run
    return [[[seeds[seed] for seed in sorted(seeds)] for seeds in _full_first(arms)] for arms in recipes.values()]


def _full_first(arms: dict[tuple[str, str], dict[int, Run]]) -> list[dict[int, Run]]:
    """Workers report in any order; a table has one."""

    def place(key: tuple[str, str]) -> tuple[bool, int, tuple[str, str]]:
        first = min(arms[key])
        return key[0] != "full", int(arms[key][first].parameters.trainable), key

    return [arms[key] for key in sorted(arms, key=place)]


def recipe_lines(arms: list[Arm], width: int | None = None) -> list[str]:
    """The table of one recipe, below each other in parts where it is wider than ``width``, and what may be said of its
    arms.
    """
    first = arms[0][0]
    seeds = ", ".join(str(run.seed) for run in max(arms, key=len))
    title = f"{first.recipe}: {first.steps} steps of {first.batch_size * first.accumulation} rows, seeds {seeds}, "
    lines = [title + f"{first.environment.device}, {first.dtype}"]
    lines += [f"  {arm[0].declaration}" for arm in arms]
    lines += [f"  {run.title}, seed {run.seed}: {_resumed(run)}" for arm in arms for run in arm if run.resumed]
    lines += _table(arms, width)
    if arms[0][0].method == "full":
        lines += [line for arm in arms[1:] for line in compared(arms[0], arm)]
    return lines


def _table(arms: list[Arm], width: int | None) -> list[str]:
    names, cells = rows_of(arms)
    names = ["", *names, "loss, step 1 on"]
    columns = [[h, *c, curve] for h, c, curve in zip(titles(arms), cells, _curves(arms), strict=True)]
    lines: list[str] = []
    while columns:
        # At least one, however narrow the terminal is.
        fit = next((n for n in range(len(columns), 1, -1) if _fits(table(names, columns[:n]), width)), 1)
        lines += table(names, columns[:fit])
        columns = columns[fit:]
    return lines


def _fits(lines: list[str], width: int | None) -> bool:
    return width is None or max(map(len, lines)) <= width


def _curves(arms: list[Arm]) -> list[str]:
    """The loss of each arm, a bar for each evaluation, on one logarithmic scale."""
    measured = [step for step, _ in arms[0][0].loss.curve]
    steps = [measured[round(i * (len(measured) - 1) / (BARS - 1))] for i in range(BARS)] if measured else []
    steps = list(dict.fromkeys(steps))
    return sparklines([[_mean_loss(arm, step) for step in steps] for arm in arms])


def _mean_loss(arm: Arm, step: int) -> float:
    try:
        return math.fsum(run.loss.at(step) for run in arm) / len(arm)
    except ValueError:
        return math.nan


def rows_of(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    """What is told of every arm: the names, and for each arm the cells beside them."""
    rows: list[tuple[str, Callable[[Arm], str]]] = [
        ("parameters", lambda arm: f"{arm[0].parameters.total:,}"),
        ("trainable", lambda arm: f"{arm[0].parameters.trainable:,}"),
        ("trainable share", lambda arm: f"{100 * arm[0].parameters.trainable / arm[0].parameters.total:.4g} %"),
        ("step time", lambda arm: duration(statistics.median(run.time.step_s for run in arm))),
        ("FLOPs a step", lambda arm: operations(arm[0].flops.total)),
        ("peak memory", lambda arm: size(arm[0].memory.peak_bytes)),
        ("static memory", lambda arm: size(arm[0].memory.static_bytes)),
        *((f"loss at step {step}", _loss_at(step)) for step in _shown_steps(arms)),
    ]
    return [name for name, _ in rows], [[cell(arm) for _, cell in rows] for arm in arms]


def titles(arms: Sequence[Arm]) -> list[str]:
    """Short names of the arms; with the name of the method in front where two would be the same."""
    short = [arm[0].title for arm in arms]
    return [f"{arm[0].method}: {t}" if short.count(t) > 1 else t for arm, t in zip(arms, short, strict=True)]


def _shown_steps(arms: Sequence[Arm]) -> list[int]:
    horizon = arms[0][0].steps
    return [EARLY_STEP, horizon] if horizon > EARLY_STEP else [horizon]


def _loss_at(step: int) -> Callable[[Arm], str]:
    def cell(arm: Arm) -> str:
        try:
            return f"{statistics.fmean(run.loss.at(step) for run in arm):.4g}"
        except ValueError:
            return "-"

    return cell


def pair_of(full: Arm, other: Arm) -> Pair | None:
    """The two arms as far as they share seeds; None where they share none."""
    seeds = {run.seed for run in full} & {run.seed for run in other}
    return Pair(*(tuple(run for run in arm if run.seed in seeds) for arm in (full, other))) if seeds else None


def compared(full: Arm, other: Arm) -> list[str]:
    """What the two arms, as far as they share seeds, say of each other."""
    for run in (*full, *other):
        if why := objections(run):
            seen = f"{run.title}, seed {run.seed}: {why[0].splitlines()[0]}"
            return [f"  {other[0].title} against full: not compared ({seen})"]
    pair = pair_of(full, other)
    if pair is None:
        return []
    reduction = 100 * (1 - pair.lora.parameters.trainable / pair.full.parameters.trainable)
    fewer = f"{reduction:.4g} % fewer" if reduction >= 0 else f"{-reduction:.4g} % more"
    lines = [
        f"  {pair.lora.title} against full: {fewer} trainable parameters; full takes "
        f"{pair.memory_ratio('static'):.3g}x the static memory, {pair.memory_ratio('peak'):.3g}x the peak memory, "
        f"{pair.flops_ratio:.3g}x the FLOPs, {pair.time_ratio:.3g}x the step time"
    ]
    if pair.divided:
        lines.append(f"    not of the same batches: {pair.divided}")
    for step in _shown_steps([full]):
        try:
            order = pair.loss_order(at=step)
        except ValueError:
            continue
        lines.append(f"    {order.reason}")
    return lines


def _resumed(run: Run) -> str:
    return f"interrupted, and resumed after update {', '.join(map(str, run.resumed))}"


def _deviation_lines(arm: Arm) -> list[str]:
    return [f"  {run.title}, seed {run.seed}: {line}" for run in _telling(arm) for line in deviations(run)]


def _telling(arm: Arm) -> Arm:
    """The runs whose deviations are told: those of the first seed are those of all, but for a retry."""
    return [run for index, run in enumerate(arm) if index == 0 or run.retried]
