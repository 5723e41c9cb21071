"""From a verdict to what pytest makes of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from .baseline.decision import UNSTABLE
from .checks.verdict import MOST_LINES, Verdict
from .comparison.comparison import Comparison
from .parametrize import plan_of
from .session import Session
from .trial import Trial


def conclude(session: Session, verdict: Verdict) -> None:
    """Pass, skip, xfail or fail the test that is running, and let its report carry the verdict."""
    __tracebackhide__ = True
    session.fresh["verdicts"].append(verdict.to_json())
    if verdict.status == "not applicable":
        pytest.skip(f"not applicable: {verdict.reason}")
    if verdict.status == "expected failure":
        pytest.xfail(verdict.reason)
    if verdict.status != "passed":  # also an expected failure under --runxfail, where pytest.xfail returns
        pytest.fail("\n".join(_once(session, verdict)), pytrace=False)


def conclude_all(session: Session, verdicts: Sequence[Verdict]) -> None:
    """The same for a test with several verdicts: any failure fails it, and it is skipped where nothing applied."""
    __tracebackhide__ = True
    session.fresh["verdicts"] += [verdict.to_json() for verdict in verdicts]
    failed = [line for verdict in verdicts if verdict.failed for line in str(verdict).splitlines()]
    if failed:
        pytest.fail("\n".join(failed[:MOST_LINES]), pytrace=False)
    applied = [verdict for verdict in verdicts if verdict.applies]
    if not applied:
        reasons = dict.fromkeys(verdict.reason for verdict in verdicts)
        pytest.skip(f"not applicable: {'; '.join(reasons) or 'no check was run'}")
    if all(verdict.status == "expected failure" for verdict in applied):
        pytest.xfail(applied[0].reason)


def _once(session: Session, verdict: Verdict) -> list[str]:
    """The verdict's lines. Why a training did not run is told whole once: it blocks every check that looks at it."""
    lines = verdict.lines()
    if verdict.status != "blocked":
        return lines
    if verdict.reason in session.told:
        return [lines[0]]
    session.told.add(verdict.reason)
    return lines


def annotate(item: pytest.Item, report: pytest.TestReport, made: Mapping[str, Sequence[str]]) -> None:
    """Count a report apart where nothing applied, keep what JUnit files show, and refuse a check that never ran."""
    verdicts = [Verdict.from_json(text) for text in made.get("verdicts", ())]
    trials = [Trial.from_json(text) for text in made.get("trials", ())]
    if len(verdicts) == 1:
        item.user_properties += _properties(verdicts[0])
    comparisons = [Comparison.from_json(text) for text in made.get("comparisons", ())]
    for comparison in comparisons:
        item.user_properties += _properties_of_comparison(comparison)
    status = _status(verdicts, trials) or _status_of_comparisons(report, comparisons)
    if status and not report.failed:
        report.ftcheck_status = status  # type: ignore[attr-defined]
    if report.when == "call" and report.passed and not verdicts and plan_of(item):
        report.outcome, report.longrepr = "failed", "ftcheck: the test ended without calling ft_check()"


def _status(verdicts: Sequence[Verdict], trials: Sequence[Trial]) -> tuple[str, str, str] | None:
    """What to count a report under, its letter, and its word with -v; None for pytest's own."""
    if verdicts and not any(verdict.applies for verdict in verdicts):
        return "not applicable", "n", "NOT APPLICABLE"
    if any(trial.not_tried for trial in trials):
        return "not tried", "n", "NOT TRIED"
    if any(trial.missed for trial in trials):
        return "missed", "m", "MISSED"
    return None


def _status_of_comparisons(report: pytest.TestReport, comparisons: Sequence[Comparison]) -> tuple[str, str, str] | None:
    """Of a test that compared, and was skipped because the samples decide nothing."""
    if report.skipped and any(one.verdict == UNSTABLE for one in comparisons):
        return "unstable", "u", "UNSTABLE"
    return None


def _properties(verdict: Verdict) -> list[tuple[str, object]]:
    names = ("recipe", "method", "check", "theme", "status")
    found: list[tuple[str, object]] = [(f"ftcheck.{name}", getattr(verdict, name)) for name in names]
    return [*found, ("ftcheck.findings", len(verdict.findings)), ("ftcheck.seconds", round(verdict.seconds, 3))]


def _properties_of_comparison(comparison: Comparison) -> list[tuple[str, object]]:
    step_time = comparison.step_time
    found = {"recipe": comparison.recipe, "method": step_time.method, "status": comparison.verdict}
    ratio = ("ftcheck.step_time_ratio", round(float(step_time.ratio), 4))
    return [*((f"ftcheck.{name}", value) for name, value in found.items()), ratio]
