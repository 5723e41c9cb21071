"""What a report says, in its order: the session, each recipe trained both ways, checks, baselines, environment."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

from ...account import deviations, objections
from ...errors import ComparisonError
from ...predict.forecast import Forecast
from ...run import Run
from ..audit import count_lines as count_checks
from ..terminal import EARLY_STEP, Arm, compared, group, pair_of, rows_of, titles
from .baselines import baselines
from .blocks import ROWS, Block, Curve, Curves, Heading, Lines, Table, Tone
from .findings import Findings
from .memory import memory, others
from .settings import settings

# A page that is read to its end has limits: figures, findings of checks, modules.
FIGURES, FAILURES, MODULES = 40, 100, 12
# What a loss curve is drawn of; between two evaluations nothing was measured.
POINTS = 60


def contents(findings: Findings) -> list[Block]:
    """All blocks of the report."""
    blocks: list[Block] = [Lines([findings.summary]), Lines(list(findings.failures), tone="bad")]
    recipes = group(findings.runs)
    for number, arms in enumerate(recipes):
        blocks += _recipe(arms, findings.forecasts, drawn=number < FIGURES)
    if len(recipes) > FIGURES:
        blocks.append(Lines([f"Figures are drawn of the first {FIGURES} of {len(recipes)} recipes."]))
    blocks += others(findings.forecasts, findings.runs)
    for number, sweep in enumerate(findings.sweeps):
        blocks += settings(sweep, drawn=number < FIGURES)
    blocks += _checks(findings)
    blocks += baselines(findings.judgements, findings.pasts)
    for comparison in findings.comparisons:
        blocks += [
            Heading(f"{comparison.recipe} against another commit: {comparison.verdict}"),
            Lines(comparison.lines(), code=True),
        ]
    blocks += _environments(findings.runs)
    return [block for block in blocks if not (isinstance(block, Lines) and not any(block.lines))]


def _recipe(arms: Sequence[Arm], forecasts: Sequence[Forecast], drawn: bool) -> Iterator[Block]:
    first = arms[0][0]
    yield Heading(f"{first.recipe}: {first.steps} steps, {first.environment.device}, {first.dtype}")
    others = arms[1:] if first.method == "full" else []
    for other in others:
        yield from _decision(arms[0], other)
    names, columns = rows_of(arms)
    heads = titles(arms)
    rows = [[name, *cells] for name, *cells in zip(names, *columns, strict=True)]
    yield Table("Both ways" if others else "The run", ["", *heads], rows)
    for other in others:
        yield Lines([line.strip() for line in compared(arms[0], other)])
    found = [f"{run.title}, seed {run.seed}: {line}" for arm in arms for run in arm for line in deviations(run)]
    yield Lines(list(dict.fromkeys(found))[:ROWS], tone="warning")
    if drawn:
        yield _curves(arms, heads)
        yield memory(arms, heads, forecasts)
    yield _modules(arms, heads)


def _decision(full: Arm, other: Arm) -> Iterator[Block]:
    """What the curves allow to be said; nothing where they allow no comparison, which the lines below the table say."""
    pair = pair_of(full, other)
    if pair is None or any(objections(run) for run in (*full, *other)):
        return
    try:
        choice = pair.decision()
    except ComparisonError as error:
        yield Lines([f"{other[0].title}: no decision: {error}"])
        return
    tone: Tone = "warning" if choice.run_to or choice.seeds else "good"
    yield Lines([f"Full or {other[0].title}? {choice!r}"], tone=tone)
    for name, arm in (("full", choice.full), (other[0].title, choice.lora)):
        if arm.law is not None and not arm.law.refused:
            floor = arm.law.floor
            yield Lines(
                [f"{name} heads for {floor.estimate:.4g} nats (95 % interval {floor.low:.4g} to {floor.high:.4g})"]
            )


def _curves(arms: Sequence[Arm], heads: Sequence[str]) -> Curves:
    curves = [_curve(arm, head) for arm, head in zip(arms, heads, strict=True)]
    horizon = arms[0][0].steps
    marks = [(EARLY_STEP, f"step {EARLY_STEP}")] if horizon > EARLY_STEP else []
    marks.append((horizon, "horizon"))
    ends = ", ".join(f"{curve.name} {curve.mean[-1]:.4g}" for curve in curves if curve.mean)
    crossings = [_crossover(arms[0], other) for other in arms[1:]] if arms[0][0].method == "full" else []
    marks += [(step, "crossover") for step in dict.fromkeys(filter(None, crossings))]
    return Curves("Loss (nats); band: all seeds", curves, marks, f"Loss over steps. At the horizon: {ends}.")


def _curve(arm: Arm, head: str) -> Curve:
    measured = [step for step, _ in arm[0].loss.curve]
    if not arm[0].loss.eval and len(measured) > POINTS:
        last = len(measured)
        measured = sorted({max(1, round(last ** (i / (POINTS - 1)))) for i in range(POINTS)})
    values = []
    for step in measured:
        values.append([loss for run in arm if (loss := _loss_at(run, step)) is not None])
    return Curve(
        head,
        measured,
        [statistics.fmean(losses) for losses in values],
        [min(losses) for losses in values],
        [max(losses) for losses in values],
    )


def _loss_at(run: Run, step: int) -> float | None:
    try:
        return run.loss.at(step)
    except ValueError:
        return None


def _crossover(full: Arm, other: Arm) -> int | None:
    pair = pair_of(full, other)
    try:
        return pair.loss_order().crossover if pair else None
    except ValueError:
        return None


def _modules(arms: Sequence[Arm], heads: Sequence[str]) -> Table:
    """The modules with the most parameters, and how many of them train."""
    counts = [arm[0].parameters.by_module for arm in arms]
    largest = sorted(counts[0], key=lambda name: -counts[0][name][0])
    rows = [
        [name, *(f"{count.get(name, (0, 0))[1]:,} of {count.get(name, (0, 0))[0]:,}" for count in counts)]
        for name in largest[:MODULES]
    ]
    rest = largest[MODULES:]
    if rest:
        sums = [[sum(count.get(name, (0, 0))[i] for name in rest) for i in (1, 0)] for count in counts]
        rows.append([f"{len(rest)} more", *(f"{trains:,} of {total:,}" for trains, total in sums)])
    return Table("Parameters that train, by module", ["module", *heads], rows)


def _checks(findings: Findings) -> Iterator[Block]:
    if not findings.verdicts:
        return
    yield Heading("Checks")
    yield Lines(count_checks(findings.verdicts))
    failed = [verdict for verdict in findings.verdicts if verdict.failed]
    for verdict in failed[:FAILURES]:
        recipe = f" of {verdict.recipe}" if verdict.recipe else ""
        yield Heading(f"{verdict.check} ({verdict.method}){recipe}: {verdict.status}", level=3)
        yield Lines(verdict.lines(), tone="bad", code=True)
    if len(failed) > FAILURES:
        yield Lines([f"and {len(failed) - FAILURES} more that failed"])


def _environments(runs: Sequence[Run]) -> Iterator[Block]:
    """Each environment once: what was trained with, and on."""
    found = {run.environment.to_json(): run.environment for run in runs}
    if not found:
        return
    yield Heading("Environment")
    for environment in itertools.islice(found.values(), ROWS):
        versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
        device = f"{environment.device} ({environment.device_name})"
        yield Lines([f"{device}, Python {environment.python}, {environment.threads} threads; {versions}"])
