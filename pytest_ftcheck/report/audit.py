"""What an audit found, at the end of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks.verdict import Verdict
from .units import duration

# Checks named as the slowest, and findings named in a line each.
SLOWEST, NAMED = 3, 20
# A check below this is nobody's reason to wait.
SLOW_S = 0.5
# In the order in which they are counted; the word for a failure is red.
ORDER = ("passed", "failed", "blocked", "error", "stale", "expected failure", "not applicable")


def examined(texts: Sequence[str]) -> int:
    """How many of the verdicts (in JSON) are about something that was there to be looked at."""
    return sum(Verdict.from_json(text).applies for text in texts)


def write_audit(reporter: Any, texts: Sequence[str]) -> None:
    """Write counts for each recipe and method, failures in a line each, and the slowest checks.

    With ``-v`` also why checks were not applicable; with ``-q`` nothing, where nothing failed.
    """
    verdicts = [Verdict.from_json(text) for text in texts]
    failed = [verdict for verdict in verdicts if verdict.failed]
    if reporter.verbosity < 0 and not failed:
        return
    reporter.write_sep("=", "ftcheck: the catalogue of checks")
    for line in count_lines(verdicts):
        reporter.write_line(line)
    for line in failure_lines(failed):
        reporter.write_line(line, red=True)
    if reporter.verbosity > 0:
        for line in reason_lines(verdicts):
            reporter.write_line(line)
    slow = sorted((v for v in verdicts if v.seconds >= SLOW_S), key=lambda v: -v.seconds)[:SLOWEST]
    if slow:
        reporter.write_line(f"slowest: {', '.join(f'{v.id} {duration(v.seconds)}' for v in slow)}")


def count_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """``instruction, lora: 40 passed, 2 failed, 3 not applicable``, a line for each recipe and method."""
    groups: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.recipe, verdict.method), []).append(verdict.status)
    return [f"{', '.join(filter(None, group))}: {_counts(statuses)}" for group, statuses in sorted(groups.items())]


def _counts(statuses: Sequence[str]) -> str:
    return ", ".join(f"{statuses.count(status)} {status}" for status in ORDER if status in statuses)


def failure_lines(failed: Sequence[Verdict]) -> list[str]:
    """A line for each failure; one for all that the same broken training blocks."""
    lines: list[str] = []
    blocked: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in failed:
        if verdict.status == "blocked":
            blocked.setdefault((verdict.method, verdict.headline), []).append(verdict)
        else:
            lines.append(f"  {verdict.id}: {verdict.headline}")
    more = [f"  ... and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [
        *lines[:NAMED],
        *more,
        *(f"  {len(group)} blocked by {headline}" for (_, headline), group in blocked.items()),
    ]


def reason_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Why checks were not applicable or expected to fail, those with the same reason in one line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.status in ("not applicable", "expected failure"):
            reasons.setdefault((verdict.status, verdict.reason), []).append(verdict.id)
    return [f"  {status}: {reason}: {', '.join(ids)}" for (status, reason), ids in reasons.items()]
