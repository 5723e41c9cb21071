"""Metrics over commits, in the terminal."""

from __future__ import annotations

from history.measured import a_trend

from pytest_ftcheck.report.trends import WIDTH, sparkline, trend_lines


def test_a_trend_is_a_picture_the_last_value_and_its_changes() -> None:
    steady = a_trend([0.25] * 10, metric="lora/time.step_s", unit="s")
    grown = a_trend([301e6] * 5 + [421e6] * 5)
    assert list(trend_lines([steady, grown])) == [
        "cpu: 2 metrics, 1 got worse, 0 changed otherwise",
        "  lora/memory.peak_bytes of test_it.py::test_it[lora]",
        "    ▁▁▁▁▁█████ 421 MB (10 runs)",
        "    worse: 301 MB -> 421 MB (+39.9 %) at 000000000005, 2026-11-06 (after 000000000004)",
        "  lora/time.step_s of test_it.py::test_it[lora]: 250 ms in all 10 runs",
    ]


def test_environments_are_apart_and_what_got_better_or_else_is_called_so() -> None:
    faster = a_trend([2.0] * 5 + [1.0] * 5, environment="nvidia-h200")
    other = a_trend([2.0] * 5 + [1.0] * 5, direction="same", environment="nvidia-h200")
    lines = list(trend_lines([faster, other, a_trend([1.0] * 5)]))
    assert [line for line in lines if not line.startswith(" ")] == [
        "cpu: 1 metrics, 0 got worse, 0 changed otherwise",
        "nvidia-h200: 2 metrics, 0 got worse, 2 changed otherwise",
    ]
    assert [line.split(":")[0].strip() for line in lines if "->" in line] == ["better", "changed"]


def test_a_picture_of_many_runs_is_as_wide_as_one_of_few() -> None:
    assert sparkline([float(i) for i in range(1000)]) == sparkline([float(i) for i in range(2000)])
    assert len(sparkline([1.0, 2.0] * 500)) == WIDTH
    assert sparkline([1.0, 2.0, 1.5]) == "▁█▅"
