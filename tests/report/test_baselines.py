"""Verdicts on baselines, in the terminal and in a job's summary."""

from __future__ import annotations

from typing import Any

import pytest
from report.test_terminal import Reporter

from pytest_ftcheck.baseline.comparison import Comparison
from pytest_ftcheck.baseline.judgement import Judgement
from pytest_ftcheck.report.baselines import (
    MOST_WARNINGS,
    ROWS,
    count_lines,
    failure_lines,
    markdown,
    warning_lines,
    write_baselines,
)


def compared(metric: str = "lora/memory.peak_bytes", verdict: str = "failed", **changes: Any) -> Comparison:
    texts = {"before": "1 MB", "now": "2 MB", "change": "+100 %", "limit": "+1 %"}
    return Comparison(metric, verdict, **{**texts, **changes})


def judged(status: str, *comparisons: Comparison, test: str = "test_it.py::test_it", **changes: Any) -> Judgement:
    return Judgement(test, "cpu", status, comparisons, **{"accept": "pytest 'test_it.py::test_it'", **changes})


def written(judgements: list[Judgement], verbosity: int = 0) -> list[str]:
    reporter = Reporter()
    reporter.verbosity = verbosity  # type: ignore[attr-defined]
    write_baselines(reporter, [judgement.to_json() for judgement in judgements])
    return reporter.lines


def test_verdicts_are_counted_for_each_environment_in_one_order() -> None:
    found = [judged("no baseline"), judged("passed"), judged("failed"), judged("passed")]
    on_gpu = Judgement("test_it.py::test_it", "nvidia-h200", "not comparable")
    assert count_lines([on_gpu, *found]) == ["cpu: 2 passed, 1 failed, 1 no baseline", "nvidia-h200: 1 not comparable"]


def test_a_failure_is_a_line_with_its_first_finding_and_many_are_counted() -> None:
    found = judged("failed", compared(verdict="passed"), compared("lora/flops.forward"))
    assert failure_lines([judged("passed"), found]) == [
        "  test_it.py::test_it: lora/flops.forward: 1 MB -> 2 MB (+100 %, limit +1 %)"
    ]
    assert failure_lines([found] * 23)[-1] == "  ... and 3 more"


def test_a_stale_baseline_comes_with_what_to_do() -> None:
    assert warning_lines([judged("passed", compared(verdict="stale"), compared(verdict="warning"))]) == [
        "  stale baseline: test_it.py::test_it: lora/memory.peak_bytes: 1 MB -> 2 MB (+100 %, limit +1 %)",
        "  warning: test_it.py::test_it: lora/memory.peak_bytes: 1 MB -> 2 MB (+100 %, limit +1 %)",
        "    accept: pytest 'test_it.py::test_it'",
    ]


def test_many_warnings_are_counted() -> None:
    lines = warning_lines([judged("passed", *[compared(verdict="warning")] * (MOST_WARNINGS + 2))])
    assert len(lines) == MOST_WARNINGS + 1
    assert lines[-1] == "  ... and 2 more lines"


def test_what_could_not_be_compared_has_a_line_for_each_reason() -> None:
    single = compared("lora/time.step_s", "not comparable", note="recorded on another machine")
    tests = [judged("not comparable", reason="not comparable: no", test=name) for name in ("a", "b")]
    assert warning_lines([*tests, judged("passed", single, test="c")]) == [
        "  not comparable: no: a, b",
        "  not comparable: recorded on another machine: c (lora/time.step_s)",
    ]


@pytest.mark.parametrize(("status", "verbosity", "shown"), [("passed", 0, 2), ("passed", -1, 0), ("failed", -1, 3)])
def test_a_quiet_session_is_told_of_failures_alone(status: str, verbosity: int, shown: int) -> None:
    assert len(written([judged(status)], verbosity)) == shown


def test_with_v_every_metric_is_shown() -> None:
    line = "  test_it.py::test_it: lora/memory.peak_bytes: 1 MB -> 2 MB (+100 %, limit +1 %)"
    found = [judged("passed", compared(verdict="passed"))]
    assert written(found, 1)[2:] == [line]
    assert line not in written(found, 0)


def test_a_table_shows_what_did_not_pass_as_it_is() -> None:
    odd = compared("a|b*<c>", "failed", note="`why`")
    lines = markdown([judged("failed", odd, compared(verdict="passed"))])
    assert lines[0] == "### ftcheck: baselines"
    rows = [line for line in lines if line.startswith("| test_it")]
    assert rows == ["| test_it.py::test_it | a\\|b\\*&lt;c> | failed (`why`) | 1 MB | 2 MB | +100 % | +1 % |"]
    assert lines[-3:] == ["```sh", "pytest 'test_it.py::test_it'", "```"]


def test_a_table_has_an_end() -> None:
    lines = markdown([judged("failed", *[compared()] * (ROWS + 3))])
    assert sum(line.startswith("| test_it") for line in lines) == ROWS
    assert "and 3 more" in lines


def test_without_anything_to_show_there_are_counts_alone() -> None:
    assert markdown([judged("passed", compared(verdict="passed"))]) == [
        "### ftcheck: baselines",
        "",
        "- cpu: 1 passed",
        "",
    ]


def test_a_summary_that_cannot_be_written_takes_nothing_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/no/such/folder/summary.md")
    assert len(written([judged("passed")])) == 2
