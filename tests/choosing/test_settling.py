"""Whether a loss curve has come to rest, and whether its learning rate did that."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from builders import a_run

from pytest_ftcheck import Run
from pytest_ftcheck.choosing.settling import FALLING, SCHEDULE_OVER, SETTLED, UNKNOWN, Settling, settling
from pytest_ftcheck.training import warm_up_and_cosine

STEPS = 400
EVALUATED = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400)


def constant(step: int) -> float:
    return 1.0


cosine = warm_up_and_cosine(STEPS)


def a_curve(loss: Callable[[int], float], rate: Callable[[int], float] = constant, seed: int = 0) -> Run:
    """A run of 400 updates, evaluated eleven times."""
    rates = [1e-3 * rate(step) for step in range(STEPS)]
    return a_run(train=(1.0,) * STEPS, evals={at: loss(at) for at in EVALUATED}, group_lr=rates, seed=seed)


def of(run: Run, at: int = STEPS) -> Settling:
    return settling([run], at)


def flat(step: int) -> float:
    return 1.0 + 2.0 * math.exp(-step / 10)


def falls(step: int) -> float:
    return 1.0 + 2.0 * step**-0.5


def test_a_curve_that_no_longer_falls_has_settled() -> None:
    found = of(a_curve(flat))
    assert (found.state, found.loss) == (SETTLED, pytest.approx(1.0))
    assert found.at_rest
    assert found.most < 0.005


def test_one_that_still_falls_has_not() -> None:
    found = of(a_curve(falls))
    assert found.state == FALLING
    assert not found.at_rest
    assert found.decrease == pytest.approx(falls(200) - falls(400), rel=0.3)
    assert "0.005 would be a plateau" in found.reason


def test_one_that_scatters_by_more_than_a_plateau_has_not_either() -> None:
    """That no decrease was found is not that there is none."""
    found = of(a_curve(lambda step: 1.0 + 0.01 * (-1) ** EVALUATED.index(step)))
    assert found.state == FALLING
    assert found.decrease < 0.005 < found.most


def test_at_the_end_of_its_schedule_a_loss_is_what_so_many_updates_give() -> None:
    found = of(a_curve(falls, cosine))
    assert found.state == SCHEDULE_OVER
    assert found.at_rest
    assert found.reason == "its learning rate ended at 0.01 of its peak"


def test_on_the_way_down_of_its_schedule_a_flat_curve_has_not_settled() -> None:
    found = of(a_curve(flat, cosine), at=300)
    assert found.state == FALLING
    assert "learning rate is on the way down" in found.reason


def test_with_few_losses_in_the_last_quarter_nothing_is_known() -> None:
    found = of(a_curve(flat), at=20)
    assert found.state == UNKNOWN
    assert not found.at_rest
    assert math.isnan(found.most)


def test_the_mean_over_the_seeds_is_looked_at() -> None:
    up, down = a_curve(lambda s: flat(s) + 0.1 * s / 400), a_curve(lambda s: flat(s) - 0.1 * s / 400, seed=1)
    assert of(up).state == FALLING or of(down).state == FALLING
    assert settling([up, down], STEPS).state == SETTLED


def test_a_run_without_evaluations_is_judged_by_its_training_losses() -> None:
    run = a_run(train=[flat(step) for step in range(1, STEPS + 1)])
    assert of(run).state == SETTLED


def test_the_law_leaves_out_the_warm_up() -> None:
    slow_start = {at: falls(at) if at >= 20 else 9.0 for at in range(1, STEPS + 1)}
    run = a_run(train=(1.0,) * STEPS, evals=slow_start, group_lr=[min(1.0, (step + 1) / 20) for step in range(STEPS)])
    law = of(run).law
    assert law is not None
    assert law.floor.estimate == pytest.approx(1.0, abs=0.01)
