"""The records of a run: what they compute from what was measured."""

from __future__ import annotations

import dataclasses
import math

import pytest
from builders import FULL_FORM, LORA_FORM, a_memory, a_run, tensors

from pytest_ftcheck import Pair, Run
from pytest_ftcheck.explained import Count
from pytest_ftcheck.order import Gap, LossOrder
from pytest_ftcheck.run import (
    WARM_UP_STEPS,
    Breakdown,
    Environment,
    Losses,
    Memory,
    Optimizer,
    OptimizerGroup,
    Parameters,
    ParameterTensor,
    Timing,
)

RECORDS = (Run, Parameters, ParameterTensor, Losses, Memory, Breakdown, Timing, Optimizer, OptimizerGroup, Environment)


@pytest.mark.parametrize(("step", "loss"), [(10, 0.5), (30, 0.25)])
def test_the_loss_is_that_of_the_evaluation_where_there_was_one(step: int, loss: float) -> None:
    assert Losses(train=(9.0,) * 30, eval=((10, 0.5), (30, 0.25))).at(step) == loss


@pytest.mark.parametrize("step", [0, 1, 11, 31])
def test_with_evaluations_no_other_step_has_a_loss(step: int) -> None:
    losses = Losses(train=(9.0,) * 30, eval=((10, 0.5), (30, 0.25)))
    with pytest.raises(ValueError, match=rf"^no evaluation at step {step}; there is one at steps 10, 30$"):
        losses.at(step)


@pytest.mark.parametrize(
    ("step", "loss"),
    [
        (1, 1.0),
        (9, 9.0),
        (19, 19.0),  # the last tenth of 19 steps is one step
        (20, 19.5),  # of 20 steps, two
        (40, 38.5),
    ],
)
def test_without_evaluations_the_loss_is_the_mean_of_the_last_tenth_of_the_steps(step: int, loss: float) -> None:
    assert Losses(train=tuple(float(i) for i in range(1, 41))).at(step) == loss


@pytest.mark.parametrize("step", [-1, 0, 41])
def test_without_evaluations_no_step_outside_of_the_run_has_a_loss(step: int) -> None:
    losses = Losses(train=(1.0,) * 40)
    with pytest.raises(ValueError, match=rf"^no loss at step {step}; the run has steps 1 to 40$"):
        losses.at(step)


def test_the_final_loss_is_that_of_the_last_evaluation_or_else_of_the_last_steps() -> None:
    assert Losses(train=(9.0,) * 40, eval=((10, 0.5), (40, 0.25))).final == 0.25
    assert Losses(train=(9.0,) * 40, eval=((10, 0.5), (30, 0.125))).final == 0.125
    assert Losses(train=(*(9.0,) * 36, 1.0, 2.0, 3.0, 4.0)).final == 2.5


def test_a_run_without_losses_has_no_final_loss() -> None:
    with pytest.raises(ValueError, match="no loss at step 0"):
        _ = Losses(train=()).final


def test_the_curve_is_of_evaluations_or_else_of_training_losses() -> None:
    assert Losses(train=(3.0, 2.0), eval=((2, 0.5),)).curve == ((2, 0.5),)
    assert Losses(train=(3.0, 2.0)).curve == ((1, 3.0), (2, 2.0))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_one_loss_that_is_not_finite_is_noticed_wherever_it_is(wrong: float) -> None:
    assert Losses(train=(1.0, 2.0), eval=((1, 1.0), (2, 1.0))).finite
    assert not Losses(train=(1.0, wrong), eval=((1, 1.0), (2, 1.0))).finite
    assert not Losses(train=(1.0, 2.0), eval=((1, wrong), (2, 1.0))).finite


def test_parameters_are_counted_by_the_size_of_their_tensors() -> None:
    parameters = Parameters(tensors("lora", wte={"moved": True}), LORA_FORM)
    assert parameters.total == 40 + 48 + 12 + 8 + 24
    assert parameters.trainable == 8 + 24
    assert parameters.frozen == 40 + 48 + 12
    assert parameters.moved == 40 + 8 + 24


@pytest.mark.parametrize("name", ["total", "trainable", "frozen", "moved"])
def test_a_count_of_parameters_knows_where_it_is_from(name: str) -> None:
    parameters = Parameters(tensors(), FULL_FORM)
    count = getattr(parameters, name)
    assert isinstance(count, Count)
    assert count.subject is parameters
    assert "parameters" in count.what


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((0, 3), 0), ((2, 3, 4), 24)])
def test_a_tensor_has_the_product_of_its_shape(shape: tuple[int, ...], size: int) -> None:
    assert ParameterTensor("w", "", shape, "float32", True, True, True, True).size == size


def test_an_adapter_counts_with_the_module_that_it_adapts() -> None:
    assert Parameters(tensors("lora")).by_module == {"wte": (40, 0), "h.0.attn.c_attn": (92, 32)}
    assert Parameters(tensors("full")).by_module == {"wte": (40, 40), "h.0.attn.c_attn": (60, 60)}


def test_parameters_stay_equal_after_they_were_asked_for_their_modules() -> None:
    asked, fresh = Parameters(tensors()), Parameters(tensors())
    assert asked.by_module
    assert asked == fresh
    assert asked.to_json() == fresh.to_json()


def test_step_time_leaves_out_the_warm_up() -> None:
    assert Timing((9.0,) * WARM_UP_STEPS + (1.0, 2.0, 30.0)).step_s == 2.0


def test_one_step_after_the_warm_up_is_enough_and_a_shorter_run_counts_whole() -> None:
    assert Timing((9.0,) * WARM_UP_STEPS + (1.0,)).step_s == 1.0
    assert Timing((9.0,) * WARM_UP_STEPS).step_s == 9.0
    assert Timing((1.0, 2.0, 9.0)).step_s == 2.0


def test_tokens_per_second_are_those_of_a_step_over_its_time() -> None:
    assert Timing((0.5,), tokens_per_step=64).tokens_per_s == 128


@pytest.mark.parametrize("time", [Timing(()), Timing((0.5,)), Timing((), 64.0)])
def test_what_was_not_timed_has_no_rate(time: Timing) -> None:
    assert math.isnan(time.tokens_per_s)


def test_static_memory_is_what_does_not_depend_on_the_batch() -> None:
    memory = a_memory(weights_bytes=1, gradients_bytes=20, optimizer_bytes=300, activations_bytes=4000)
    assert memory.static_bytes == 321


def test_a_breakdown_adds_up() -> None:
    assert Breakdown().total == 0
    assert Breakdown(1, 20, 300, 4000, 50_000).total == 54_321


@pytest.mark.parametrize("kind", [*RECORDS, Gap, LossOrder, Pair])
def test_a_record_cannot_be_changed(kind: type) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(object.__new__(kind), dataclasses.fields(kind)[0].name, "changed")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_comes_back_equal_from_json(method: str) -> None:
    run = a_run(method, train=(0.1 + 0.2, 1 / 3), evals={1: 0.1, 2: 1e-320}, supervised_tokens=(7, None), seed=3)
    assert Run.from_json(run.to_json()) == run


def test_a_diverged_run_comes_back_as_it_was() -> None:
    run = a_run(train=(1.0, math.nan, math.inf), evals={3: math.nan})
    again = Run.from_json(run.to_json())
    assert again.to_json() == run.to_json()
    assert not again.loss.finite


def test_a_run_prints_short() -> None:
    assert repr(a_run("lora", seed=2, evals={3: 0.25})) == "<Run a recipe: LoRA r=2, seed 2, 3 steps, loss 0.25>"


def test_a_sound_run_deviates_in_nothing_and_an_unsound_one_says_in_what() -> None:
    assert a_run("lora").deviations == ()
    parameters = Parameters(tensors("lora", wte={"moved": True}), LORA_FORM)
    (line,) = a_run("lora", parameters=parameters).deviations
    assert "wte.weight" in line
