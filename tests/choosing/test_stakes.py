"""The user's own numbers: what a lower loss is worth, and what it costs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_ftcheck import Stakes
from pytest_ftcheck.errors import ComparisonError

# The seed's question: six hours of an A100 against one and a half.
NUMBERS: dict[str, float] = dict(gpu_hour=2.0, full_hours=6.0, lora_hours=1.5, value_per_point=250, points_per_nat=20)


def test_full_fine_tuning_pays_from_the_gap_on_that_is_worth_its_extra_cost() -> None:
    stakes = Stakes(**NUMBERS, trainings=10)
    assert stakes.extra_cost == 90.0
    assert stakes.value_per_nat == 5000
    assert stakes.break_even == 90 / 5000


def test_full_fine_tuning_that_costs_less_pays_before_it_is_better() -> None:
    assert Stakes(**{**NUMBERS, "full_hours": 1.0}).break_even < 0


@pytest.mark.parametrize("name", [*NUMBERS, "trainings"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "2", None, True])
def test_what_is_no_number_of_money_or_hours_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ComparisonError, match=rf"^Stakes\.{name} is .*; allowed: a number of at least 0$"):
        Stakes(**{**NUMBERS, name: value})


@pytest.mark.parametrize("name", ["value_per_point", "points_per_nat"])
def test_a_lower_loss_has_to_be_worth_something(name: str) -> None:
    with pytest.raises(ComparisonError, match="is 0; allowed: what a lower loss is worth"):
        Stakes(**{**NUMBERS, name: 0})
