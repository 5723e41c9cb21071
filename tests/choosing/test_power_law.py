"""The floor of a loss curve: its interval covers the truth, and it is refused where the curve does not show it."""

from __future__ import annotations

import math
import random

import pytest

from pytest_ftcheck.choosing.power_law import FEWEST_POINTS, PowerLaw, fitted

STEPS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 700, 1000, 1400, 2000)
FLOOR = 1.5


def curve(exponent: float, sd: float, seed: int, scale: float = 2.0) -> list[tuple[int, float]]:
    drawn = random.Random(seed)
    return [(step, FLOOR + scale * step**-exponent + drawn.gauss(0, sd)) for step in STEPS]


def law_of(points: list[tuple[int, float]]) -> PowerLaw:
    law = fitted(points)
    assert law is not None
    return law


@pytest.mark.parametrize("exponent", [0.3, 1.0])
@pytest.mark.parametrize("sd", [0.003, 0.02])
def test_the_intervals_cover_the_truth_of_at_least_ninety_of_a_hundred_curves(exponent: float, sd: float) -> None:
    laws = [law_of(curve(exponent, sd, seed)) for seed in range(100)]
    assert not any(law.refused for law in laws)
    covered = [law.floor.low <= FLOOR <= law.floor.high for law in laws]
    assert 90 <= sum(covered) < 100, "an interval that always covers says nothing"
    assert sum(law.exponent.low <= exponent <= law.exponent.high for law in laws) >= 90


def test_of_a_curve_without_noise_the_law_is_found() -> None:
    law = law_of(curve(0.5, 0.0, 0))
    assert law.floor.estimate == pytest.approx(FLOOR, abs=1e-3)
    assert law.exponent.estimate == pytest.approx(0.5, rel=1e-3)
    assert law.scale == pytest.approx(2.0, rel=1e-3)
    assert law.at(4000) == pytest.approx(FLOOR + 2 * 4000**-0.5, abs=1e-3)


def test_the_step_from_which_on_the_loss_falls_by_less_than_a_plateau_is_that_of_the_law() -> None:
    law = law_of(curve(0.5, 0.0, 0))
    step = law.step_of_decrease(0.005)
    assert law.at(step) - law.at(2 * step) == pytest.approx(0.005, rel=1e-3)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([(s, 3 - 0.1 * math.log(s)) for s in STEPS], "exponent may be anything"),
        ([(s, 1.0 + 0.1 * (s == 1)) for s in STEPS], "exponent may be anything"),
        ([(s, 1.0) for s in STEPS], "does not fall"),
        ([(s, 1.0 + 0.001 * s) for s in STEPS], "does not fall"),
        (curve(0.3, 1.0, 0), "exponent may be anything"),
    ],
    ids=["straight", "a step", "flat", "rising", "noise"],
)
def test_a_floor_that_the_curve_does_not_show_is_refused(points: list[tuple[int, float]], why: str) -> None:
    assert why in law_of(points).refused


def test_too_few_points_and_a_loss_that_is_not_finite_have_no_law() -> None:
    points = curve(0.5, 0.0, 0)
    assert fitted(points[: FEWEST_POINTS - 1]) is None
    assert fitted(points[:FEWEST_POINTS]) is not None
    assert fitted([*points[:-1], (2000, math.nan)]) is None
