"""A change is for the worse, for the better, or neither."""

from __future__ import annotations

import pytest
from history.measured import a_trend

from pytest_ftcheck.history.trend import in_order


@pytest.mark.parametrize(
    ("direction", "after", "worse"),
    [("lower", 2.0, True), ("lower", 0.5, False), ("higher", 2.0, False), ("higher", 0.5, True), ("same", 2.0, None)],
)
def test_which_way_is_worse_depends_on_the_metric(direction: str, after: float, worse: bool | None) -> None:
    trend = a_trend([1.0] * 5 + [after] * 5, direction=direction)
    (turn,) = trend.turns
    assert turn.worse is worse
    assert (turn.last, turn.first) == (trend.series.points[4], trend.series.points[5])
    assert trend.worsened == (worse is True)


def test_what_got_worse_and_better_again_has_not_worsened() -> None:
    assert not a_trend([1.0] * 5 + [2.0] * 5 + [1.0] * 5).worsened


def test_what_got_worse_comes_first() -> None:
    worse, better, steady = (a_trend([1.0] * 5 + [after] * 5, metric=str(after)) for after in (2.0, 0.5, 1.0))
    assert in_order([steady, better, worse]) == [worse, better, steady]
