"""What a report says of baselines: the verdicts, how to accept what is seen, and how it went with each metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...baseline.comparison import Comparison, number
from ...baseline.judgement import Judgement
from ...baseline.past import Accepted, Past, Pasts
from ..baselines import WORTH_A_ROW, count_lines
from ..trends import sparkline
from .blocks import ROWS, Block, Heading, Lines, Table

# Commands, and values of one metric that were accepted before.
COMMANDS, VALUES = 100, 5

Row = tuple[Judgement, Comparison, Past]


def baselines(judgements: Sequence[Judgement], pasts: Pasts) -> Iterator[Block]:
    """The part on baselines; nothing where no test has one."""
    if not judgements:
        return
    yield Heading("Baselines")
    yield Lines(count_lines(judgements))
    known = {(one.environment, one.test, one.metric): one for one in pasts.found}
    bad, good = _rows(judgements, known, WORTH_A_ROW), _rows(judgements, known, ("passed",))
    if bad:
        yield _verdicts(bad)
        yield from _accepted(bad)
    accepts = [one.accept for one in judgements if one.status in ("failed", "no baseline") and one.accept]
    if accepts:
        yield Lines(["To accept what is seen:"])
        yield Lines(list(dict.fromkeys(accepts))[:COMMANDS], code=True)
    if good:
        yield _passed(good)
    yield Lines([f"Not looked back at: {problem}" for problem in pasts.problems[:COMMANDS]], tone="warning")


def _rows(
    judgements: Sequence[Judgement], known: Mapping[tuple[str, str, str], Past], verdicts: Sequence[str]
) -> list[Row]:
    return [
        (judgement, one, known.get(key) or Past(judgement.test, one.metric, judgement.environment))
        for judgement in judgements
        for one in judgement.those(*verdicts)
        for key in [(judgement.environment, judgement.test, one.metric)]
    ]


def _verdicts(rows: Sequence[Row]) -> Table:
    cells = [
        [
            *(judgement.test, one.metric, f"{one.verdict}{f' ({one.note})' if one.note else ''}", so_far(one, past)),
            *(one.before, one.now, one.change, one.limit),
        ]
        for judgement, one, past in rows[:ROWS]
    ]
    head = ["test", "metric", "verdict", "so far", "baseline", "now", "change", "limit"]
    return Table(_some("What did not simply pass", rows), head, cells, texts=4)


def _accepted(rows: Sequence[Row]) -> Iterator[Table]:
    """What somebody said is right, of each metric the newest first: what it is held to is on top."""
    cells = []
    for judgement, one, past in rows:
        older = len(past.accepted) - VALUES
        for accepted in past.accepted[: -VALUES - 1 : -1]:
            cells.append([judgement.test, one.metric, _when(accepted), accepted.because, accepted.shown])
        if older > 0:
            cells[-1][3] += f" (and {older} before it)"
    if cells:
        head = ["test", "metric", "accepted", "because", "value"]
        yield Table(_some("What was accepted of it", cells), head, cells[:ROWS], texts=4)


def _passed(rows: Sequence[Row]) -> Table:
    cells = [
        [
            *(judgement.test, one.metric, _when(past.accepted[-1]) if past.accepted else "-"),
            *(so_far(one, past), one.now or one.before, one.limit),
        ]
        for judgement, one, past in rows[:ROWS]
    ]
    head = ["test", "metric", "accepted", "so far", "now", "limit"]
    return Table(_some("What passed", rows), head, cells, texts=4, folded=True)


def so_far(one: Comparison, past: Past) -> str:
    """A picture of what earlier sessions have seen; without a history, of what was accepted and of what is seen now."""
    if len(past.runs) > 1:
        return _pictured(past.runs, one.unit, f"{len(past.runs)} sessions")
    accepted = [each.value for each in past.accepted if each.value is not None]
    if not accepted:
        return "-"
    return _pictured(
        [*accepted, *([one.value] if one.value is not None else [])], one.unit, f"{len(accepted)} accepted"
    )


def _pictured(values: Sequence[float], unit: str, what: str) -> str:
    low, high = number(min(values), unit), number(max(values), unit)
    # Equal numbers have no picture: it would show what is too small to be told.
    return f"{sparkline(values)} {low} to {high}, {what}" if low != high else f"all {low}, {what}"


def _when(accepted: Accepted) -> str:
    if not accepted.commit:
        return "not committed"
    return f"{'by ' if accepted.by else ''}{accepted.day} in {accepted.commit}"


def _some(caption: str, rows: Sequence[object]) -> str:
    """A table that does not have all of them says so."""
    return caption if len(rows) <= ROWS else f"{caption} ({ROWS} of {len(rows)})"
