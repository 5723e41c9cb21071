"""What an audit prints at the end of a session."""

from __future__ import annotations

from pytest_ftcheck.checks.check import Finding
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.report.audit import NAMED, count_lines, examined, failure_lines, reason_lines, write_audit
from pytest_ftcheck.report.sabotage import NO_TESTS, score_lines
from pytest_ftcheck.trial import Trial


def verdict(check: str, status: str, reason: str = "", seconds: float = 0.0, method: str = "lora") -> Verdict:
    findings = (Finding("3 of 4", "a cause", "a remedy"),) if status == "failed" else ()
    return Verdict(check, "labels", method, "claim", status, findings, reason, seconds=seconds, recipe="mine")


VERDICTS = [
    verdict("a", "passed", seconds=2.0),
    verdict("b", "failed", seconds=0.6),
    verdict("c", "not applicable", "no head"),
    verdict("d", "not applicable", "no head"),
    verdict("e", "expected failure", "see #12"),
    verdict("f", "blocked", "it raised\n  at loop.py:3"),
    verdict("g", "blocked", "it raised\n  at loop.py:3"),
    verdict("a", "passed", method="full"),
]


class Reporter:
    """Takes down what is written."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.lines: list[str] = []

    def write_sep(self, separator: str, title: str) -> None:
        self.lines.append(f"{separator} {title}")

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)


def written(verdicts: list[Verdict], verbosity: int = 0) -> list[str]:
    reporter = Reporter(verbosity)
    write_audit(reporter, [v.to_json() for v in verdicts])
    return reporter.lines


def test_counts_failures_and_the_slowest() -> None:
    assert written(VERDICTS) == [
        "= ftcheck: the catalogue of checks",
        "mine, full: 1 passed",
        "mine, lora: 1 passed, 1 failed, 2 blocked, 1 expected failure, 2 not applicable",
        "  lora-b: 3 of 4",
        "  2 blocked by it raised",
        "slowest: lora-a 2 s, lora-b 600 ms",
    ]


def test_reasons_are_told_on_request_and_once() -> None:
    told = ["  not applicable: no head: lora-c, lora-d", "  expected failure: see #12: lora-e"]
    assert reason_lines(VERDICTS) == told
    assert [line for line in written(VERDICTS, verbosity=1) if line in told] == told


def test_a_quiet_session_tells_failures_only() -> None:
    assert written(VERDICTS[:1], verbosity=-1) == []
    assert len(written(VERDICTS, verbosity=-1)) > 1


def test_very_many_failures_are_cut() -> None:
    lines = failure_lines([verdict(f"c{i}", "failed") for i in range(NAMED + 5)])
    assert len(lines) == NAMED + 1
    assert lines[-1] == "  ... and 5 more"


def test_only_what_applied_was_examined() -> None:
    assert examined([v.to_json() for v in VERDICTS]) == 6
    assert examined([]) == 0


def test_recipes_are_counted_apart() -> None:
    assert count_lines([verdict("a", "passed"), Verdict("a", "labels", "lora", "", "passed")]) == [
        "lora: 1 passed",
        "mine, lora: 1 passed",
    ]


def test_the_score_of_the_catalogue_and_of_tests() -> None:
    trials = [
        Trial("one", "", "mine", by_check="lora-a", by_test=""),
        Trial("two", "", "mine", by_check="", by_test="test_it.py::test_it"),
        Trial("three", "", "mine", by_check="", by_test=""),
        Trial("four", "", "mine", not_tried="no head\nmore"),
    ]
    assert score_lines(trials) == [
        "mine: the catalogue noticed 1 of 3; missed: two, three",
        "mine: your tests noticed 1 of 3; missed: one, three",
        "mine: could not be tried: four (no head)",
    ]
    assert score_lines([Trial("one", "", "mine", by_check="lora-a")]) == [
        "mine: the catalogue noticed 1 of 1",
        f"mine: {NO_TESTS}",
    ]
