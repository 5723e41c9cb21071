"""Steps are found where they are, and noise shows none."""

from __future__ import annotations

import random
import sys

import pytest

from pytest_ftcheck.errors import HistoryError
from pytest_ftcheck.history.change_points import SHORTEST, Change, change_points

SERIES = 200


def noisy(runs: int, seed: int, outliers: float = 0.0, step: float = 0.0) -> list[float]:
    """Around 1, by 1 % (a standard deviation), with outliers of 20 % on average; the second half is ``step`` higher."""
    draw = random.Random(seed)

    def value(index: int) -> float:
        slow = draw.expovariate(1 / 0.2) if draw.random() < outliers else 0.0
        return 1.0 + 0.01 * draw.gauss(0, 1) + slow + (step if index >= runs // 2 else 0.0)

    return [value(index) for index in range(runs)]


def test_an_exact_metric_shows_every_step_however_small() -> None:
    values = [294_912.0] * 5 + [294_913.0] * 4 + [589_824.0] * 3
    assert change_points(values) == [Change(5, 294_912.0, 294_913.0), Change(9, 294_913.0, 589_824.0)]


def test_a_step_in_noise_is_found_where_it_is() -> None:
    found = [change_points(noisy(50, seed, step=0.05)) for seed in range(100)]
    assert all(len(changes) >= 1 for changes in found)
    assert sum(len(changes) == 1 and abs(changes[0].index - 25) <= 1 for changes in found) >= 95
    assert all(0.9 < changes[0].ratio / 1.05 < 1.1 for changes in found)


@pytest.mark.parametrize(("outliers", "most"), [(0.0, 0.02), (0.05, 0.08)])
@pytest.mark.parametrize("runs", [20, 50, 200])
def test_noise_alone_shows_hardly_any(runs: int, outliers: float, most: float) -> None:
    found = sum(bool(change_points(noisy(runs, seed, outliers))) for seed in range(SERIES))
    assert found / SERIES <= most


def test_one_run_that_was_slow_is_no_change_and_three_are() -> None:
    assert change_points([*[1.0] * 10, 3.0, *[1.0] * 10]) == []
    assert [change.index for change in change_points([*[1.0] * 10, *[3.0] * SHORTEST])] == [10]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 2.0, 2.0, 2.0], [0.0] * 50])
def test_too_few_runs_and_what_never_changes_show_none(values: list[float]) -> None:
    assert change_points(values) == []


def test_a_change_from_nothing_is_one() -> None:
    (change,) = change_points([0.0] * 5 + [8.0] * 5)
    assert (change.index, change.ratio) == (5, float("inf"))


def test_without_ruptures_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(HistoryError, match=r"not installed: pip install 'pytest-ftcheck\[history\]'"):
        change_points([1.0] * 5 + [2.0] * 5)
