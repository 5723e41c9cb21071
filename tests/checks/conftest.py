"""Short cuts for tests of the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ftcheck import Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.verdict import Verdict


@pytest.fixture(scope="session")
def verdict_on() -> Callable[..., Verdict]:
    """``verdict_on(check_id, recipe, method)``: the one verdict."""

    def verdict(check_id: str, recipe: Recipe, method: str = "lora") -> Verdict:
        (found,) = check_training(recipe, methods=[method], select=[check_id])
        return found

    return verdict
