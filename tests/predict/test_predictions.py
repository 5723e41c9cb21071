"""Predictions of several workloads for one GPU."""

from __future__ import annotations

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.predict import predictions as module
from pytest_ftcheck.predict.predictions import Predictions
from pytest_ftcheck.predict.workload import Workload

from .synthetic import a_prediction
from .workloads import tiny_llama


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the recipes that were predicted, by nothing that takes any time."""
    names: list[str] = []

    def predict_recipe(recipe: object, method: str, **settings: object) -> object:
        names.append(f"{method} x {recipe.batch_size}")  # type: ignore[attr-defined]
        return a_prediction()

    monkeypatch.setattr(module, "predict_recipe", predict_recipe)
    return names


def test_what_is_asked_for_twice_is_predicted_once(made: list[str]) -> None:
    told: list[tuple[int, int]] = []
    predictions = Predictions("t4", tell=lambda workload, before: told.append((workload.batch_size, before)))
    for batch_size in (1, 2, 1, 2):
        # Equal configurations count as the same, which have no hash.
        predictions.of(Workload(tiny_llama(), batch_size=batch_size))
    assert made == ["full x 1", "full x 2"]
    assert told == [(1, 0), (2, 1)]
    assert predictions.count == 2


def test_a_gpu_that_is_not_known_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"gpu is 'v100'; allowed: .*t4"):
        Predictions("v100")
