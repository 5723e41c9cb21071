from __future__ import annotations

import pytest

from pytest_ftcheck.progress.state import MEASURES, TRAINS, WAITS, State, clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (48, "48 s"), (59.5, "1:00"), (92, "1:32"), (3600, "1:00:00"), (7510, "2:05:10")],
)
def test_time_is_said_in_the_units_that_fit_and_never_too_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_state_says_what_is_known_and_no_more() -> None:
    state = State("narrow, full, seed 0", "test_it.py::test_a", TRAINS, 9.0, 12, 500, 0.24351, 92.0)
    assert str(state) == "narrow, full, seed 0: step 12 of 500, loss 0.2435, 1:32 left"
    first = State("narrow, full, seed 0", "test_it.py::test_a", TRAINS, 9.0, 1, 500)
    assert str(first) == "narrow, full, seed 0: step 1 of 500"
    assert str(State("narrow", "", MEASURES, 9.0)) == "narrow: memory is measured"
    assert str(State("narrow", "", WAITS, 9.0)) == "narrow: waits, another process trains it"


def test_a_diverged_loss_arrives_as_it_was() -> None:
    state = State("narrow", "", TRAINS, 9.0, 1, 2, float("nan"))
    assert str(State.from_json(state.to_json())) == "narrow: step 1 of 2, loss nan"
