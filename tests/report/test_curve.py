"""Loss curves as a line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pytest_ftcheck.report.curve import BARS, sparklines


@pytest.mark.parametrize(
    ("curves", "lines"),
    [
        ([[1.0, 10.0, 100.0]], ["▁▅█"]),  # equal steps of the logarithm
        ([[100.0, 10.0, 1.0]], ["█▅▁"]),
        ([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]], ["▁▂▃▄▅▆▇██"]),
        ([[1.0, 100.0], [10.0, 10.0]], ["▁█", "▅▅"]),  # one scale for all curves
        ([[0.01, 0.05, 1.0]], ["▁▃█"]),  # log 5 / log 100 = 0.35 of the way
        ([[1.0, 1.0], [1.0]], ["▁▁", "▁"]),
        ([[5.0]], ["▁"]),
        ([[]], [""]),
        ([], []),
    ],
)
def test_a_bar_is_as_high_as_the_logarithm_of_the_loss(curves: Sequence[Sequence[float]], lines: list[str]) -> None:
    assert sparklines(curves) == lines


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_cross_and_leaves_the_scale(wrong: float) -> None:
    assert sparklines([[1.0, wrong, 100.0], [wrong, 10.0, wrong]]) == ["▁x█", "x▅x"]
    assert sparklines([[wrong]]) == ["x"]


@pytest.mark.parametrize("nothing", [0.0, -0.0, -1.0])
def test_a_loss_without_a_logarithm_is_the_lowest_bar_and_leaves_the_scale(nothing: float) -> None:
    assert sparklines([[1.0, nothing, 100.0]]) == ["▁▁█"]
    assert sparklines([[nothing, nothing]]) == ["▁▁"]


def test_every_loss_has_a_bar() -> None:
    losses = [1.001**i for i in range(1000)]
    (line,) = sparklines([losses])
    assert len(line) == len(losses)
    assert sorted(line, key=BARS.index) == list(line)
    assert set(line) == set(BARS)
