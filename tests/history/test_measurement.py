"""Which numbers of a session are kept."""

from __future__ import annotations

import math

import pytest
from history.measured import a_comparison, a_judgement, a_measurement

from pytest_ftcheck.history.measurement import measurements


def test_every_number_is_kept_whatever_became_of_its_test() -> None:
    judgement = a_judgement(
        a_comparison("lora/time.step_s", 0.5, unit="s"), a_comparison(), a_comparison("lora/loss_order", None)
    )
    found = measurements([judgement])
    assert [(one.metric, one.values, one.unit) for one in found] == [
        ("lora/time.step_s", (0.5,), "s"),
        ("lora/memory.peak_bytes", (1000.0,), "bytes"),
    ]
    assert {one.test for one in found} == {"test_it.py::test_it[lora]"}


def test_repetitions_are_all_kept() -> None:
    (one,) = measurements([a_judgement(a_comparison(value=2.0, samples=(1.0, 2.0, 3.0)))])
    assert one.values == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_not_kept(bad: float) -> None:
    assert measurements([a_judgement(a_comparison(value=bad))]) == []
    assert measurements([a_judgement(a_comparison(samples=(1.0, bad)))]) == []


def test_a_test_that_was_skipped_has_measured_nothing() -> None:
    assert measurements([a_judgement(fingerprint=None)]) == []


def test_of_a_test_that_ran_again_the_last_counts() -> None:
    found = measurements([a_judgement(a_comparison(value=1.0)), a_judgement(a_comparison(value=2.0))])
    assert [one.values for one in found] == [(2.0,)]


def test_a_kind_is_the_same_for_all_runs_and_has_its_unit() -> None:
    assert a_measurement().kind == "memory.peak_bytes (bytes)"
    assert a_measurement(metric="accuracy", unit="").kind == "accuracy"


@pytest.mark.parametrize(
    ("direction", "value", "inverted"), [("higher", 0.5, True), ("lower", 0.5, False), ("higher", 0.0, False)]
)
def test_what_should_grow_is_inverted_where_it_can_be(direction: str, value: float, inverted: bool) -> None:
    assert a_measurement(value, direction=direction).is_inverted == inverted
