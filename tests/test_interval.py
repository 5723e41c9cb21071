"""Intervals over few pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from scipy import stats

from pytest_ftcheck.interval import Interval, normal, signed_rank, student

SPREAD = (0.013, -0.021, 0.034, 0.055, -0.008, 0.029, 0.041, 0.002, 0.017, -0.013, 0.006, 0.038)
INTERVALS = [student, signed_rank, lambda values, confidence: normal(values, 0.02, confidence)]
ALL = pytest.mark.parametrize("interval", INTERVALS, ids=["student", "signed-rank", "normal"])


def test_students_interval_is_scipys() -> None:
    expected = stats.t.interval(0.98, len(SPREAD) - 1, loc=sum(SPREAD) / len(SPREAD), scale=stats.sem(SPREAD))
    found = student(SPREAD, 0.98)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_the_normal_interval_is_scipys() -> None:
    found = normal(SPREAD, 0.5, 0.9)
    expected = stats.norm.interval(0.9, loc=found.estimate, scale=0.5 / math.sqrt(len(SPREAD)))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("count", [7, 10, 12])
def test_the_signed_rank_interval_has_the_values_that_the_test_does_not_reject(count: int, alpha: float) -> None:
    """Just inside a limit scipy's exact test does not reject at alpha, just outside it does."""
    values = SPREAD[:count]
    found = signed_rank(values, 1 - 2 * alpha)

    def p(centre: float, alternative: str) -> float:
        shifted = [value - centre for value in values]
        return float(stats.wilcoxon(shifted, alternative=alternative, method="exact").pvalue)

    if 2**-count > alpha:
        assert (found.low, found.high) == (-math.inf, math.inf)
        return
    nudge = 1e-9
    assert p(found.low - nudge, "greater") <= alpha < p(found.low + nudge, "greater")
    assert p(found.high + nudge, "less") <= alpha < p(found.high - nudge, "less")


def test_an_outlier_moves_the_signed_rank_estimate_and_the_limit_opposite_by_little_and_students_much() -> None:
    wild, found, usual = (*SPREAD[:-1], 5.0), signed_rank((*SPREAD[:-1], 5.0), 0.98), signed_rank(SPREAD, 0.98)
    assert abs(found.estimate - usual.estimate) < 0.005 < 0.3 < student(wild, 0.98).estimate
    assert found.low == pytest.approx(usual.low, abs=0.005)
    assert student(wild, 0.98).low < -0.5


@ALL
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_a_number_that_is_not_finite_nothing_is_known(interval: object, bad: float) -> None:
    found = interval((*SPREAD, bad), 0.98)  # type: ignore[operator]
    assert all(math.isnan(value) for value in (found.estimate, found.low, found.high))


@ALL
def test_of_nothing_nothing_is_known(interval: object) -> None:
    assert math.isnan(interval((), 0.98).estimate)  # type: ignore[operator]


@pytest.mark.parametrize("values", [(0.1,), (0.1, 0.2)])
def test_too_few_pairs_have_no_limits(values: Sequence[float]) -> None:
    assert signed_rank(values, 0.98).half_width == math.inf
    assert student(values[:1], 0.98).half_width == math.inf


def test_half_the_width_is_half_the_width() -> None:
    assert Interval(1.0, 0.5, 2.0).half_width == 0.75


def test_the_exact_distribution_has_every_sign_pattern() -> None:
    """By counting all 128 patterns of 7 signs."""
    sums = sorted(
        sum(r for r, s in zip(range(1, 8), signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=7)
    )
    alpha = 3 / 128
    largest = max(total for total in range(29) if sum(one <= total for one in sums) <= 3)
    means = sorted((a + b) / 2 for i, a in enumerate(SPREAD[:7]) for b in SPREAD[i:7])
    assert signed_rank(SPREAD[:7], 1 - 2 * alpha).low == means[largest]
