"""GPT-2 124M, full and with LoRA, at its real size: what is counted, held, predicted, computed and timed.

With --ftcheck-device=cpu the same on a CPU, in four minutes and 3 GB. The table at the session's end has the figures.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpu.test_both_ways_on_a_device import closed_form
from predict.gpu_grid import LIMITS
from predict.workloads import C_ATTN, gpt2_124m
from transformers import GPT2LMHeadModel

from pytest_ftcheck import Full, Pair, Recipe, Run
from pytest_ftcheck.predict import Prediction, predict_recipe
from pytest_ftcheck.predict.present import present_gpu
from pytest_ftcheck.theory.flops import flops_form
from pytest_ftcheck.theory.memory import static_ratio

pytestmark = pytest.mark.gpu(memory="6GB")

BATCH, LENGTH = 4, 128


def rows() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, 50257, (32, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in ids]


def model() -> torch.nn.Module:
    return GPT2LMHeadModel(gpt2_124m(dropout=0.0))


@pytest.fixture(scope="module")
def ft_recipe() -> Recipe:
    return Recipe(
        name="gpt2-124m",
        model=model,
        train_data=rows,
        eval_data=None,
        full=Full(lr=1e-4),
        lora=C_ATTN,
        steps=8,
        seeds=1,
        batch_size=BATCH,
    )


def predicted(recipe: Recipe, method: str, device: str) -> Prediction:
    if device == "cpu":
        return predict_recipe(recipe, method, device="cpu")
    gpu = present_gpu(device)
    if gpu is None:
        pytest.skip(f"no profile is like {torch.cuda.get_device_name(device)}")
    return predict_recipe(recipe, method, gpu=gpu)


def test_it_trains_what_the_arithmetic_says(ft_full: Run, ft_lora: Run) -> None:
    assert ft_full.parameters.trainable == 124_439_808
    # Of each of 12 layers r · (768 + 2304).
    assert ft_lora.parameters.trainable == 12 * 8 * (768 + 2304) == 294_912
    assert not ft_full.deviations
    assert not ft_lora.deviations


def test_full_holds_nearly_four_times_what_lora_does(ft_pair: Pair) -> None:
    expected = static_ratio(closed_form(ft_pair.full), closed_form(ft_pair.lora))
    assert ft_pair.memory_ratio("static") == pytest.approx(expected, rel=1e-3)
    assert 3.9 < ft_pair.memory_ratio("static") < 4


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_peak_is_what_was_predicted(ft_recipe: Recipe, ft_run: Any, ft_device: str, method: str) -> None:
    run, prediction = ft_run(method), predicted(ft_recipe, method, ft_device)
    assert run.memory.at_peak.total == pytest.approx(prediction.memory.at_peak.total, rel=LIMITS["active_bytes"])
    if ft_device != "cpu":
        assert run.memory.peak_bytes == pytest.approx(prediction.allocated_bytes, rel=LIMITS["allocated_bytes"])


def test_the_work_is_that_of_the_closed_form(ft_recipe: Recipe, ft_pair: Pair) -> None:
    with torch.device("meta"):
        base = model()
    shape = {"batch_size": BATCH, "sequence_length": LENGTH}
    full, lora = (flops_form(base, ft_recipe.method(name), **shape) for name in ("full", "lora"))
    assert (ft_pair.full.flops, ft_pair.lora.flops) == (full.flops, lora.flops)
    assert 1.3 < ft_pair.flops_ratio < 1.5


def test_full_takes_nowhere_near_three_times_as_long(ft_pair: Pair) -> None:
    assert ft_pair.time_ratio < 3
    assert ft_pair.full.time.step_s > 0


def test_an_update_of_either_can_be_timed_by_pytest_benchmark(ft_benchmark: Any) -> None:
    pytest.importorskip("pytest_benchmark")
    assert ft_benchmark("lora", rounds=5)
