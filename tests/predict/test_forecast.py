"""What a report shows of predictions: of which run they are, and what it asks for itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_run
from predict.synthetic import a_gpu, a_prediction

from pytest_ftcheck import Run
from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict import Prediction, forecast, predictor
from pytest_ftcheck.predict.forecast import Forecast, Forecasts
from pytest_ftcheck.run import Environment

RUN = a_run("lora")
ON_H100 = dataclasses.replace(
    RUN, environment=Environment("cuda", "NVIDIA H100 80GB HBM3", "3.11.7", {}, threads=1, deterministic=False)
)
SAME = dict(recipe=RUN.recipe, declaration=RUN.declaration, dtype="float32", batch_size=4, accumulation=2)


def predicted(**changes: Any) -> Prediction:
    """Of ``RUN``, for a CPU."""
    return a_prediction(**{**SAME, "backend": "cpu", **changes})


def test_json_gives_an_equal_forecast() -> None:
    found = Forecast.of(predicted(), "the first row", RUN.memory)
    assert Forecast.from_json(found.to_json()) == found


def test_it_is_held_against_a_run_of_the_same_device_dtype_and_batch_alone() -> None:
    assert Forecast.of(predicted()).is_of(RUN)
    assert Forecast.of(predicted()).differs_from(RUN) == []
    changes: list[tuple[dict[str, Any], str]] = [
        ({"backend": "fakegpu"}, "for pretended"),
        ({"dtype": "bfloat16"}, "in bfloat16"),
        ({"batch_size": 8}, "in batches of 2 x 8"),
        ({"accumulation": 1}, "in batches of 1 x 4"),
    ]
    for change, what in changes:
        assert Forecast.of(predicted(**change)).differs_from(RUN) == [what]
    assert Forecast.of(predicted(), "one row").differs_from(RUN) == ["of one row"]
    assert Forecast.of(predicted()).differs_from(dataclasses.replace(RUN, retried="batch_size 4 -> 2"))
    for change in ({"recipe": "another"}, {"method": "full"}, {"declaration": "LoRA(r=4)"}):
        assert not Forecast.of(predicted(**change)).is_of(RUN)


@pytest.mark.parametrize(("name", "differs"), [("h100", False), ("a100", True), ("NVIDIA H100 80GB HBM3", False)])
def test_one_for_a_gpu_is_held_against_runs_on_that_gpu(name: str, differs: bool) -> None:
    found = Forecast.of(predicted(backend="fakegpu", gpu=a_gpu(10, name=name)))
    assert bool(found.differs_from(ON_H100)) is differs
    assert found.differs_from(RUN) == [f"for {name}"]
    assert Forecast.of(predicted()).differs_from(ON_H100) == ["for a CPU"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is predicted, by nobody: how it was asked for."""
    found: list[dict[str, Any]] = []

    def predict(recipe: Any, method: str, **how: Any) -> Prediction:
        found.append({"method": method, **how})
        if method == "full":
            raise PredictionError("no such operation\n  what to do: another")
        return predicted(method=method)

    monkeypatch.setattr(predictor, "predict_recipe", predict)
    return found


def test_what_a_report_cannot_tell_apart_is_predicted_once_and_a_failure_is_told(asked: list[dict[str, Any]]) -> None:
    told: list[Forecast] = []
    forecasts = Forecasts(told.append)
    seeds = [dataclasses.replace(RUN, seed=seed, steps=10 + seed) for seed in range(3)]
    forecasts.add(None, [*seeds, a_run("full"), dataclasses.replace(RUN, batch_size=8, retried="4 -> 8")])  # type: ignore[arg-type]
    forecasts.add(None, seeds)  # type: ignore[arg-type]
    assert [(one["method"], one["device"]) for one in asked] == [("lora", "cpu"), ("full", "cpu")]
    assert [(one.failed, one.memory is None) for one in told] == [("", False), ("no such operation", True)]
    assert told[1].is_of(a_run("full"))


def test_on_a_gpu_it_is_that_gpu_that_is_predicted_for(asked: list[dict[str, Any]]) -> None:
    told: list[Forecast] = []
    elsewhere = dataclasses.replace(ON_H100.environment, device_name="Another One")
    Forecasts(told.append).add(None, [ON_H100, dataclasses.replace(ON_H100, environment=elsewhere)])  # type: ignore[arg-type]
    assert [one["gpu"].name for one in asked] == ["h100"]
    assert told[1].failed == "there is no profile of Another One"


def test_what_takes_too_long_and_what_would_have_to_import_torch_is_left_out(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Forecast] = []
    Forecasts(told.append, budget_s=0.5).add(None, [RUN])  # type: ignore[arg-type]
    monkeypatch.setattr(forecast, "sys", SimpleNamespace(modules={}))
    Forecasts(told.append).add(None, [RUN])  # type: ignore[arg-type]
    assert not asked
    assert [one.failed for one in told] == [
        "the predictions before it took the time that a report has for them",
        "this process has trained nothing (all runs were stored, or trained elsewhere)",
    ]


TEST = f"""
    import sys
    sys.path.append({str(Path(__file__).parents[1])!r})
    import pytest
    from recipes import tiny_recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return tiny_recipe(full=None, steps=2)

    def test_run(ft_run): ft_run("lora"), ft_run("lora", seed=1)
    def test_predict(ft_predict): ft_predict("lora", gpu="t4")
"""
QUICK = ("-p", "no:cacheprovider", "--ftcheck-device=cpu", "--ftcheck-no-cache")


def test_a_report_has_what_was_predicted_of_its_runs_and_it_is_what_they_took(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    pytester.runpytest_inprocess(*QUICK, "--ftcheck-report=json:r.json", "--ftcheck-report=md:r.md").assert_outcomes(
        passed=2
    )
    data = json.loads((pytester.path / "r.json").read_text())
    run = Run.from_json(json.dumps(data["runs"][0]))
    found = [Forecast.from_json(json.dumps(one)) for one in data["predictions"]]
    assert [one.gpu for one in found] == ["t4", ""], "what the test has asked for, and once what the report has"
    assert found[1].differs_from(run) == []
    assert found[1].memory == run.memory
    text = (pytester.path / "r.md").read_text()
    assert "measured is the same to the byte; predicted for t4" in text


def test_without_a_report_nobody_predicts(pytester: pytest.Pytester, asked: list[dict[str, Any]]) -> None:
    pytester.makepyfile(TEST)
    pytester.runpytest_inprocess(*QUICK, "-k", "test_run").assert_outcomes(passed=1)
    assert not asked
    pytester.runpytest_inprocess(*QUICK, "-k", "test_run", "--ftcheck-report=json:r.json").assert_outcomes(passed=1)
    assert [one["method"] for one in asked] == ["lora"]
