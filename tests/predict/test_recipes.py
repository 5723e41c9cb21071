"""Recipes as people write them: their own trainers, loops and models, predicted as they are.

For the CPU a prediction is compared with what a run of the same recipe measures: to the byte.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import language_models as models
import pytest

from pytest_ftcheck import Recipe
from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.execution import execute
from pytest_ftcheck.predict import Prediction, predict_recipe
from pytest_ftcheck.tasks import instruction
from pytest_ftcheck.tasks.instruction import tiny_llama

REPOS = ("accelerate_loop", "hf_trainer", "lightning", "llama_loop", "plain_loop", "script", "seed_gpt2", "trl_sft")


@pytest.fixture
def guarded(request: pytest.FixtureRequest, repos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """The recipe of a repository under guard, from a conftest that cannot be imported by its name."""
    folder, before = repos / request.param, set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location(f"{folder.name}_conftest", folder / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    own = {"on_gpu": False} if request.param == "seed_gpt2" else {}
    yield conftest.ft_recipe.__wrapped__(**own)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("guarded", REPOS, indirect=True)
def test_every_repository_under_guard_is_predicted(guarded: Recipe) -> None:
    prediction = predict_recipe(guarded, "lora")
    assert prediction.backend == "fakegpu"
    assert 0 < prediction.memory.optimizer_bytes < prediction.memory.weights_bytes


@pytest.mark.parametrize("guarded", ["accelerate_loop"], indirect=True)
def test_a_training_of_this_session_does_not_decide_where_a_prediction_is(guarded: Recipe) -> None:
    """Accelerate remembers for the whole process that its first training was on the CPU."""
    execute(guarded, "lora", 0, 1, "cpu")
    assert predict_recipe(guarded, "lora").backend == "fakegpu"


def trained(**arguments: Any) -> Prediction:
    return predict_recipe(models.trainer_recipe(tiny_llama, {"use_cpu": False, **arguments}), "lora")


def test_the_switches_of_a_trainer_show_in_the_step_that_they_change() -> None:
    plain = trained(dataloader_num_workers=2, logging_strategy="steps", logging_steps=1)
    assert trained(gradient_checkpointing=True).memory.activations_bytes < 0.8 * plain.memory.activations_bytes
    assert trained(bf16=True).memory.activations_bytes < plain.memory.activations_bytes
    assert trained(fp16=True, optim="sgd").memory.optimizer_bytes == 0


def test_a_trainer_that_was_told_to_use_the_cpu_is_not_predicted_for_a_gpu() -> None:
    with pytest.raises(PredictionError, match="the model is on cpu when it trains"):
        trained(use_cpu=True)


ON_A_CPU: dict[str, tuple[Recipe, str]] = {
    "gpt2": (models.gpt2_recipe(), "full"),
    "trainer": (models.trainer_recipe(collate=models.on_the_left), "lora"),
    "t5": (models.t5_recipe(), "lora"),
    "bert": (models.classifier_recipe(), "full"),
    "bfloat16": (instruction.instruction_recipe(tiny_llama, dtype="bfloat16"), "full"),
}


@pytest.mark.parametrize(("recipe", "method"), ON_A_CPU.values(), ids=ON_A_CPU)
def test_on_a_cpu_the_prediction_is_what_a_run_measures(recipe: Recipe, method: str) -> None:
    assert predict_recipe(recipe, method, device="cpu").memory == execute(recipe, method, 0, 2, "cpu").memory


def test_padding_decides_which_attention_a_gpu_chooses() -> None:
    """A mask of ones is known to be of ones, and so left out."""
    padded = instruction.instruction_recipe(tiny_llama, dtype="bfloat16")
    for recipe, is_flash in ((padded, False), (padded.replace(collate=cut_short), True)):
        operations = {held.op for held in predict_recipe(recipe).moment("forward").held}
        assert any("flash_attention" in name for name in operations) is is_flash, operations


def cut_short(rows: list[Any]) -> models.Batch:
    return instruction.collate([dict.fromkeys(("input_ids", "labels"), row["input_ids"][:4]) for row in rows])
