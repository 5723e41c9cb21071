"""Memory in a report: measured, and predicted beside it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from builders import a_memory, a_run

from pytest_ftcheck.predict.forecast import Forecast
from pytest_ftcheck.report.document.blocks import Bars, Heading, Lines
from pytest_ftcheck.report.document.memory import memory, others
from pytest_ftcheck.run import Environment, Memory, Run

# 1600 static bytes, and 400 more at the peak.
FULL = a_run("full")


def forecast(predicted: Memory | None = FULL.memory, **changes: Any) -> Forecast:
    """Of FULL, as it was measured."""
    same = Forecast(FULL.recipe, "full", FULL.declaration, "float32", 4, 2, "", predicted)
    return dataclasses.replace(same, **changes)


def more(factor: float) -> Memory:
    """What is predicted of FULL, with so many times the temporaries."""
    at_peak = dataclasses.replace(FULL.memory.at_peak, temporaries=int(400 * factor))
    return dataclasses.replace(FULL.memory, at_peak=at_peak, peak_bytes=at_peak.total)


def shown(*forecasts: Forecast, run: Run = FULL) -> Bars:
    return memory([[run]], ["full"], forecasts)


def test_a_prediction_has_a_bar_of_its_own_and_its_difference_is_told() -> None:
    bars = shown(forecast(more(2)))
    assert list(bars.names) == ["full", "full, predicted"]
    assert list(bars.predicted) == [False, True]
    assert dict(bars.parts)["temporaries"] == [400, 800]
    assert bars.told == "full: 2 kB in optimizer; predicted 2.4 kB in optimizer, measured is -16.7 %."
    assert "measured is the same to the byte" in shown(forecast()).told


def test_what_nobody_predicted_has_no_bar_and_no_zero() -> None:
    for bars, why in (
        (shown(), "not predicted"),
        (shown(forecast(None, failed="no such operation")), "not predicted: no such operation"),
        (shown(forecast(method="lora")), "not predicted"),
    ):
        assert list(bars.names) == ["full"]
        assert bars.told == f"full: 2 kB in optimizer; {why}."


def test_a_failure_is_not_told_where_somebody_else_had_no_failure() -> None:
    assert "not predicted" not in shown(forecast(None, failed="took too long"), forecast()).told
    told = shown(forecast(None, failed="took too long"), forecast(gpu="h100")).told
    assert "not predicted: took too long; predicted for h100" in told


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"gpu": "h100"}, "for h100"), ({"dtype": "bfloat16"}, "in bfloat16"), ({"batch_size": 8}, "in batches of 2 x 8")],
)
def test_a_prediction_of_something_else_is_shown_as_what_it_is(changes: dict[str, Any], what: str) -> None:
    bars = shown(forecast(more(2), **changes))
    assert list(bars.names) == ["full", f"full, predicted {what}"]
    assert bars.told.endswith(f"predicted {what}: 2.4 kB in optimizer (not comparable).")
    assert "measured is" not in bars.told


def test_on_a_gpu_it_is_the_allocator_s_peak_that_is_compared() -> None:
    environment = Environment("cuda", "NVIDIA H100 80GB HBM3", "3.11.7", {}, threads=1, deterministic=False)
    measured = a_memory(peak_bytes=110_000, source="allocator")
    run = dataclasses.replace(FULL, environment=environment, memory=measured)
    told = shown(forecast(gpu="h100", allocated_bytes=100_000), run=run).told
    assert told.endswith("the allocator's peak is +10 % (110 kB, predicted 100 kB).")


def test_a_check_that_trained_on_one_row_is_shown_apart_from_the_runs() -> None:
    checked = forecast(rows="the first row", measured=more(3))
    assert list(shown(checked).names) == ["full"]
    heading, bars = others([checked, forecast()], [FULL])
    assert isinstance(heading, Heading)
    assert isinstance(bars, Bars)
    names = ["a recipe, full, predicted for a CPU of the first row", "a recipe, full, measured"]
    assert (list(bars.names), list(bars.predicted)) == (names, [True, False])
    assert "2 kB in optimizer; 2.8 kB in optimizer measured, measured is +40 %." in bars.told


def test_predictions_of_what_nobody_trained_are_a_part_of_their_own() -> None:
    _, bars = others([forecast(gpu="h100"), forecast(gpu="t4"), forecast(None, failed="no such operation")], [])
    assert isinstance(bars, Bars)
    assert list(bars.names) == ["a recipe, full, predicted for h100", "a recipe, full, predicted for t4"]
    assert "a recipe, full: not predicted: no such operation." in bars.told
    _, lines = others([forecast(None, failed="no such operation")], [])
    assert lines == Lines(["a recipe, full: not predicted: no such operation."])
    assert list(others([], [FULL])) == list(others([forecast()], [FULL])) == []


def test_two_predictions_of_one_name_are_two_bars() -> None:
    _, bars = others([forecast(gpu="h100"), forecast(more(2), gpu="h100"), forecast(more(3), gpu="h100")], [])
    assert isinstance(bars, Bars)
    assert len(set(bars.names)) == 3
