"""A run against its declaration: each way to show nothing, each way to differ, and the sound run that does neither."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from builders import FULL_FORM, LORA_FORM, a_run, a_tensor, tensors

from pytest_ftcheck import Run
from pytest_ftcheck.account import deviations, objections
from pytest_ftcheck.run import Optimizer, OptimizerGroup, Parameters
from pytest_ftcheck.theory.differences import SHOWN_NAMES


def a_run_with(method: str = "lora", **changes: Any) -> Run:
    """A run some of whose parameters are otherwise: ``lora_={"moved": False}``."""
    form = FULL_FORM if method == "full" else LORA_FORM
    return a_run(method, parameters=Parameters(tensors(method, **changes), form))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("supervised", [(), (5, 4, 3), (None, None, None), (1, 0, 0)])
def test_a_sound_run_has_no_objection_and_no_deviation(method: str, supervised: tuple[int | None, ...]) -> None:
    run = a_run(method, evals={1: 2.0, 3: 1.0}, supervised_tokens=supervised)
    assert objections(run) == ()
    assert deviations(run) == ()


def test_a_first_update_without_supervision_is_an_objection() -> None:
    (found,) = objections(a_run(supervised_tokens=(0, 5, 5)))
    assert found.splitlines()[0] == "0 supervised tokens in update 1: no position of the logits received a gradient"
    assert "likely cause: every label is -100" in found


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("update", "context"),
    [
        (1, "from the first update, learning rate 0.1"),
        (2, "the update before had 3.125, learning rate 0.2"),
        (3, "the update before had 2.5, learning rate 0.3"),
    ],
)
def test_a_training_loss_that_is_not_finite_is_an_objection(wrong: float, update: int, context: str) -> None:
    train = [3.125, 2.5, 1.5]
    train[update - 1] = wrong
    (found,) = objections(a_run(train=train, group_lr=(0.1, 0.2, 0.3)))
    assert found.splitlines()[0] == f"loss is {wrong} in update {update} of 3 ({context})"
    assert found.splitlines()[1].startswith("  likely cause: a learning rate that is too high")


def test_the_first_loss_that_is_not_finite_is_the_one_that_is_told() -> None:
    (found,) = objections(a_run(train=(1.0, math.inf, math.nan), evals={3: math.nan}))
    assert found.startswith("loss is inf in update 2 of 3")


def test_a_diverged_run_whose_learning_rate_was_not_seen_is_an_objection_all_the_same() -> None:
    (found,) = objections(a_run(train=(math.nan,), group_lr=()))
    assert found.startswith("loss is nan in update 1 of 1 (from the first update, learning rate nan)")


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_an_evaluation_loss_that_is_not_finite_is_an_objection(wrong: float) -> None:
    (found,) = objections(a_run(evals={1: 2.0, 3: wrong}))
    assert found == f"evaluation loss is {wrong} after update 3\n  likely cause: evaluation data without labels"


def test_a_model_with_nothing_to_train_is_an_objection() -> None:
    (found,) = objections(a_run_with("full", wte={"trainable": False}, c_attn={"trainable": False}))
    assert found.splitlines()[0] == "0 of 100 parameters are trainable"
    assert objections(a_run_with("full", wte={"trainable": False, "moved": False})) == ()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"optimized": False}, "no optimizer holds them (was it built before the adapter?)"),
        ({"gradient": False}, "they received no gradient (unused, detached, or cut off by checkpointing)"),
        ({"dtype": "float16"}, "their updates are lost to rounding in float16"),
    ],
)
def test_a_run_in_which_nothing_moved_is_an_objection_with_its_cause(change: dict[str, Any], cause: str) -> None:
    (found,) = objections(a_run_with("lora", lora_={"moved": False, **change}))
    assert found == f"0 of 32 trainable parameters moved in 3 updates\n  likely cause: {cause}"


def test_a_run_in_which_one_tensor_moved_is_no_objection() -> None:
    assert objections(a_run_with("lora", lora_A={"moved": False})) == ()


def test_several_causes_of_standing_still_are_all_told() -> None:
    stuck = {"moved": False}
    (found,) = objections(a_run_with("lora", lora_A={**stuck, "optimized": False}, lora_B={**stuck, "gradient": False}))
    assert "no optimizer holds them" in found
    assert " and they received no gradient" in found


def test_every_objection_is_told() -> None:
    parameters = Parameters(tensors("lora", lora_={"moved": False}), LORA_FORM)
    run = a_run("lora", train=(math.nan,), supervised_tokens=(0,), parameters=parameters)
    first_words = [text.split()[0] for text in objections(run)]
    assert first_words == ["0", "loss", "0"]


@pytest.mark.parametrize(
    ("group_lr", "cause"),
    [
        ((0.0, 0.0, 0.0), "their learning rate is 0 in every update"),
        ((0.0, 0.0, 1e-30), "their updates are lost to rounding in float32"),
    ],
)
def test_a_learning_rate_of_zero_is_a_cause_only_where_it_is_zero_throughout(
    group_lr: tuple[float, ...], cause: str
) -> None:
    parameters = Parameters(tensors("lora", lora_A={"moved": False}), LORA_FORM)
    (line,) = deviations(a_run("lora", parameters=parameters, group_lr=group_lr))
    expected = f"8 parameters are trainable but did not move: {cause} "
    assert line == expected + "(base_model.model.h.0.attn.c_attn.lora_A.default.weight)"


def test_a_parameter_whose_learning_rate_is_not_known_is_not_said_to_have_had_none() -> None:
    # Added to the optimizer after its first step: it is held by one, and no group's record names it.
    run = a_run_with("lora", lora_A={"moved": False, "gradient": False})
    groups = (OptimizerGroup(("base_model.model.h.0.attn.c_attn.lora_B.default.weight",), 0.0, (0.01,) * 3),)
    (line,) = deviations(dataclasses.replace(run, optimizers=(Optimizer("AdamW", groups),)))
    assert "they received no gradient" in line


def test_the_learning_rate_that_counts_is_that_of_the_parameters_own_group() -> None:
    run = a_run_with("lora", lora_A={"moved": False})
    first, second = (f"base_model.model.h.0.attn.c_attn.lora_{part}.default.weight" for part in "AB")
    still = OptimizerGroup((first,), 0.0, (0.0,) * 3)
    moving = OptimizerGroup((second,), 0.0, (0.01,) * 3)
    (line,) = deviations(dataclasses.replace(run, optimizers=(Optimizer("AdamW", (still, moving)),)))
    assert "their learning rate is 0 in every update" in line
    (line,) = deviations(dataclasses.replace(run, optimizers=(Optimizer("AdamW", (moving, still)),)))
    assert "their learning rate is 0 in every update" in line


def test_idle_parameters_are_told_once_for_each_cause() -> None:
    run = a_run_with("full", wte={"moved": False, "gradient": False}, c_attn={"moved": False, "optimized": False})
    unused, forgotten = deviations(run)
    assert unused.startswith("40 parameters are trainable but did not move: they received no gradient")
    assert forgotten == (
        "60 parameters are trainable but did not move: no optimizer holds them (was it built before the adapter?) "
        "(h.0.attn.c_attn.weight, h.0.attn.c_attn.bias)"
    )


def test_frozen_parameters_that_moved_are_a_deviation() -> None:
    (line,) = deviations(a_run_with("lora", wte={"moved": True}))
    assert line == "40 parameters are frozen but moved: something other than a gradient changed them (wte.weight)"


@pytest.mark.parametrize(("count", "shown"), [(SHOWN_NAMES, "t0, t1, t2)"), (SHOWN_NAMES + 1, "t0, t1, t2, ...)")])
def test_many_names_are_cut_short(count: int, shown: str) -> None:
    moved = tuple(a_tensor(f"t{i}", (2,), trainable=False, moved=True) for i in range(count))
    run = a_run("lora", parameters=Parameters((*moved, a_tensor("w", (1,)))))
    (line,) = deviations(run)
    assert line.startswith(f"{2 * count} parameters are frozen but moved")
    assert line.endswith(shown)


def test_a_model_that_is_not_as_declared_is_a_deviation() -> None:
    run = a_run_with("lora", wte={"trainable": True, "moved": True})
    (line,) = deviations(run)
    assert line.startswith("40 trainable instead of 0 in wte: ")


def test_without_a_declared_form_no_deviation_from_it_is_claimed() -> None:
    parameters = Parameters(tensors("lora", wte={"trainable": True, "moved": True}), None)
    assert deviations(a_run("lora", parameters=parameters)) == ()


def test_the_adapter_missing_from_the_model_is_a_deviation() -> None:
    parameters = Parameters(tensors("full", wte={"trainable": False, "moved": False}), LORA_FORM)
    (line,) = deviations(a_run("lora", parameters=parameters))
    assert line == "60 trainable instead of 32 in h.0.attn.c_attn: no adapter here, and the base is not frozen"
