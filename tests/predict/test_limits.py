"""Limits are numbers that mean something, and the system keeps a process to them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.predict.limits import DAY_S, Limits


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "60", None, 2 * DAY_S])
def test_a_time_limit_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"^time_limit_s is {value!r}; allowed: a number above 0, up to 86400$"):
        Limits(time_s=value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), 2**61, "1GB"])
def test_a_memory_limit_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"^memory_limit_bytes is .*; allowed: a number above 0, up to \d+$"):
        Limits(memory_bytes=value)


def test_fractions_and_the_largest_values_are_allowed() -> None:
    assert Limits(0.5, 1.5e9) != Limits(DAY_S, 2**60)
