"""What became of the tests that hold something to a baseline: in the terminal, and in the summary of a CI job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..baseline.comparison import Comparison
from ..baseline.judgement import STATUSES, Judgement
from . import step_summary

# Tests named in a line each; rows of a table on a page that has limits of its own.
NAMED, ROWS = 20, 200
# Stored times warn in every session on a busy machine.
MOST_WARNINGS = 30
WORTH_A_ROW = ("failed", "missing", "new", "stale", "warning", "not comparable")


def write_baselines(reporter: Any, texts: Sequence[str], summarize: bool = True) -> None:
    """Write counts for each environment, and a line for what failed, warns, or could not be compared.

    With ``-v`` also one for each metric that passed; with ``-q`` nothing, where everything passed. ``summarize``: add a
    table to the summary of the job, where there is one.
    """
    judgements = [Judgement.from_json(text) for text in texts]
    if summarize:
        step_summary.add("\n".join(markdown(judgements)) + "\n")
    if reporter.verbosity < 0 and all(judgement.status == "passed" for judgement in judgements):
        return
    reporter.write_sep("=", "ftcheck: baselines")
    for line in count_lines(judgements):
        reporter.write_line(line)
    if reporter.verbosity > 0:
        for line in passed_lines(judgements):
            reporter.write_line(line)
    for line in failure_lines(judgements):
        reporter.write_line(line, red=True)
    for line in warning_lines(judgements):
        reporter.write_line(line, yellow=True)


def count_lines(judgements: Sequence[Judgement]) -> list[str]:
    """``cpu: 3 passed, 1 failed, 1 no baseline``, a line for each environment."""
    groups: dict[str, list[str]] = {}
    for judgement in judgements:
        groups.setdefault(judgement.environment, []).append(judgement.status)
    return [": ".join(filter(None, [name, _counts(statuses)])) for name, statuses in sorted(groups.items())]


def _counts(statuses: Sequence[str]) -> str:
    return ", ".join(f"{statuses.count(status)} {status}" for status in STATUSES if status in statuses)


def passed_lines(judgements: Sequence[Judgement]) -> list[str]:
    """A line for each metric that is as its baseline says."""
    return [f"  {j.test}: {comparison.line}" for j in judgements for comparison in j.those("passed")]


def failure_lines(judgements: Sequence[Judgement]) -> list[str]:
    """A line for each test that failed or has no baseline."""
    failed = [j for j in judgements if j.status in ("failed", "no baseline")]
    more = [f"  ... and {len(failed) - NAMED} more"] if len(failed) > NAMED else []
    return [*(f"  {j.test}: {j.headline}" for j in failed[:NAMED]), *more]


def warning_lines(judgements: Sequence[Judgement]) -> list[str]:
    """What was not comparable, a line for each reason; stale baselines and warnings, a line each."""
    reasons: dict[str, list[str]] = {}
    for judgement in judgements:
        if judgement.status == "not comparable":
            reasons.setdefault(judgement.reason, []).append(judgement.test)
        elif alone := judgement.those("not comparable"):
            reasons.setdefault(f"not comparable: {alone[0].note}", []).append(
                f"{judgement.test} ({', '.join(c.metric for c in alone)})"
            )
    lines = [f"  {reason}: {', '.join(tests)}" for reason, tests in reasons.items()]
    for judgement in judgements:
        found = [("stale baseline", c) for c in judgement.those("stale")]
        found += [("warning", c) for c in judgement.those("warning")]
        lines += [f"  {word}: {judgement.test}: {c.line}" for word, c in found]
        lines += [f"    accept: {judgement.accept}"] if judgement.those("stale") else []
    more = [f"  ... and {len(lines) - MOST_WARNINGS} more lines"] if len(lines) > MOST_WARNINGS else []
    return [*lines[:MOST_WARNINGS], *more]


def markdown(judgements: Sequence[Judgement]) -> list[str]:
    """Counts, and a table of what did not simply pass."""
    lines = ["### ftcheck: baselines", "", *(f"- {_escaped(line)}" for line in count_lines(judgements)), ""]
    rows = [(j.test, c) for j in judgements for c in j.comparisons if c.verdict in WORTH_A_ROW]
    if rows:
        lines += ["| test | metric | verdict | baseline | now | change | limit |", "|---|---|---|--:|--:|--:|--:|"]
        lines += [_row(test, comparison) for test, comparison in rows[:ROWS]]
    if len(rows) > ROWS:
        lines += ["", f"and {len(rows) - ROWS} more"]
    accepts = [j.accept for j in judgements if j.status in ("failed", "no baseline") and j.accept]
    if accepts:
        lines += ["", "To accept what is seen:", "", "```sh", *accepts[:NAMED], "```"]
    return lines


def _row(test: str, comparison: Comparison) -> str:
    note = f" ({comparison.note})" if comparison.note else ""
    cells = (
        *(test, comparison.metric, comparison.verdict + note),
        *(comparison.before, comparison.now, comparison.change, comparison.limit),
    )
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that a table of Markdown shows as it is."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
