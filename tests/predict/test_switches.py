"""Which switch buys how much."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.predict import GPUS, predict_training
from pytest_ftcheck.predict.predictions import Predictions
from pytest_ftcheck.predict.switches import Switch, changes, half_precision, switches
from pytest_ftcheck.predict.workload import Workload

from .synthetic import Synthetic, a_gpu, unpredictable
from .workloads import tiny_llama

MODEL = tiny_llama()
MODEL.num_hidden_layers = 1
TRAINING: dict[str, Any] = dict(
    model=MODEL,
    method=LoRA(r=8, target_modules="all-linear"),
    batch_size=2,
    sequence_length=256,
    dtype="bfloat16",
)


def titles(workload: Workload, gpu: str = "h100") -> list[str]:
    return [change.title for change in changes(workload, GPUS[gpu])]


@pytest.fixture(scope="module")
def found() -> dict[str, Switch]:
    """The switches of the training above, by their titles."""
    made, problems = switches(Workload(**TRAINING), Predictions("h100"))
    assert not problems
    return {switch.title: switch for switch in made}


def test_every_setting_of_a_lora_step_is_switched_once() -> None:
    assert titles(Workload(**TRAINING)) == [
        "adamw-fused",
        "gradient checkpointing",
        "adapters in the model's dtype",
        "eager attention",
        "all in float32",
    ]


def test_each_switch_goes_the_other_way_where_it_is_already_on() -> None:
    workload = Workload(
        **TRAINING,
        optimizer="adamw-fused",
        gradient_checkpointing=True,
        autocast_adapter_dtype=False,
        attention="eager",
    )
    assert titles(workload) == [
        "adamw-foreach",
        "no gradient checkpointing",
        "adapters in float32",
        "sdpa attention",
        "all in float32",
    ]


def test_full_fine_tuning_and_float32_have_no_adapter_dtype_to_switch() -> None:
    full = dataclasses.replace(Workload(**TRAINING), method=Full())
    float32 = dataclasses.replace(Workload(**TRAINING), dtype="float32")
    for workload in (full, float32):
        assert not any("adapters" in title for title in titles(workload))


@pytest.mark.parametrize(("gpu", "half"), [("h100", "bfloat16"), ("t4", "float16")])
def test_half_precision_is_what_the_gpu_computes_in(gpu: str, half: str) -> None:
    assert half_precision(GPUS[gpu]) == half
    assert f"all in {half}" in titles(Workload("a model"), gpu)


@pytest.mark.parametrize(
    ("optimizer", "other"), [("adamw-loop", "adamw-fused"), ("sgd-momentum-foreach", "sgd-momentum-fused")]
)
def test_an_optimizer_is_switched_within_its_kind(optimizer: str, other: str) -> None:
    assert titles(Workload("a model", optimizer=optimizer))[0] == other


def test_what_a_switch_saves_is_the_difference_of_two_predictions(found: dict[str, Switch]) -> None:
    asked, other = predict_training(**TRAINING), predict_training(**TRAINING, gradient_checkpointing=True)
    switch = found["gradient checkpointing"]
    assert switch.saved_bytes == asked.allocated_bytes - other.allocated_bytes
    assert switch.prediction == other


def test_switches_that_save_come_first_and_those_that_cost_last(found: dict[str, Switch]) -> None:
    saved = [switch.saved_bytes for switch in found.values()]
    assert saved == sorted(saved, reverse=True)
    for title in ("gradient checkpointing", "adapters in the model's dtype"):
        assert found[title].saved_bytes > 0
    for title in ("all in float32", "eager attention"):
        assert found[title].saved_bytes < 0


def test_a_switch_that_cannot_be_predicted_is_named_and_the_others_are_there() -> None:
    def reserved(workload: Workload) -> int:
        return unpredictable(workload) if workload.attention == "eager" else 500

    made, problems = switches(Workload("a model"), Synthetic(a_gpu(1000), reserved))
    assert problems == ("eager attention: no eager attention",)
    assert len(made) == 3
