"""The checks of several processes: silent on what is sound, whoever distributes, and none of the known mistakes missed.

Each of the catalogue's own negative controls is tried in tests/checks/test_controls.py.
"""

from __future__ import annotations

import functools
from typing import Any

import loops
import pytest
from recipes import tiny_recipe

from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama
from pytest_ftcheck.trainer import TrainerLoop

CHECKS = chosen(["distributed"])
# Sharding is tried with two layers; for the rest one is enough, and cheaper.
ONE_LAYER = functools.partial(tiny_llama, num_hidden_layers=1)
SOUND: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2"},
    "own-ddp": {"train": loops.ddp()},
    "own-fsdp2": {"train": loops.fsdp2(), "save": loops.gathered},
    "trainer": {"train": TrainerLoop(loops.make_trainer).train},
    "accelerate": {"train": loops.accelerated},
}
# The mistake, the part of the recipe that makes it, and the check that must notice.
BUGS: dict[str, tuple[dict[str, Any], str]] = {
    "unsynchronised": ({}, "gradients-are-synchronised"),
    "mean of means": ({}, "several-processes-equal-one"),
    "divided twice": ({}, "several-processes-equal-one"),
    "same rows": ({}, "each-row-on-one-rank"),
    "buffer drift": ({"adapt": loops.with_running_mean}, "ranks-stay-identical"),
    "no set_epoch": ({}, "epochs-are-shuffled-anew"),
    "adapter outside": ({}, "wrapped-as-it-trains"),
    "moved after wrapping": ({}, "wrapped-as-it-trains"),
}


# Every loop, with one of the methods each: either wrapping is tried with both.
TRIED = [(loop, "full" if loop in ("fsdp2", "own-ddp") else "lora") for loop in SOUND]


@pytest.mark.parametrize(("loop", "method"), TRIED)
def test_every_check_has_something_to_look_at_in_a_sound_training_and_passes(loop: str, method: str) -> None:
    recipe = instruction_recipe(tiny_llama if "fsdp2" in loop else ONE_LAYER, processes=2, **SOUND[loop])
    verdicts = check_training(recipe, methods=[method], select=["distributed"])
    assert [str(v) for v in verdicts if v.status != "passed"] == []
    assert len(verdicts) == len(CHECKS) == 8


@pytest.mark.parametrize("bug", BUGS)
def test_a_mistake_in_a_loop_that_distributes_by_itself_is_noticed(bug: str) -> None:
    parts, check = BUGS[bug]
    recipe = instruction_recipe(ONE_LAYER, processes=2, train=loops.ddp(bug), **parts)
    (verdict,) = check_training(recipe, methods=["lora"], select=[check])
    assert verdict.status == "failed", verdict


def test_a_running_mean_that_is_made_equal_is_no_drift() -> None:
    recipe = instruction_recipe(ONE_LAYER, processes=2, train=loops.ddp(), adapt=loops.with_running_mean)
    (verdict,) = check_training(recipe, methods=["lora"], select=["ranks-stay-identical"])
    assert verdict.status == "passed", verdict


def test_a_checkpoint_of_rank_0s_shard_is_noticed() -> None:
    recipe = instruction_recipe(ONE_LAYER, processes=2, train=loops.fsdp2(), save=loops.own_shard)
    (verdict,) = check_training(recipe, methods=["lora"], select=["distributed-checkpoint-loads-in-one-process"])
    assert verdict.status == "failed"
    assert "cannot be loaded by one process" in verdict.headline


def test_rows_with_equally_many_labels_do_not_hide_a_mean_of_means() -> None:
    recipe = tiny_recipe(processes=2, train=loops.ddp("mean of means"))
    (verdict,) = check_training(recipe, methods=["full"], select=["several-processes-equal-one"])
    assert verdict.status == "failed"
    assert "labels that count, by rank: " in str(verdict)


def test_a_recipe_of_one_process_has_nothing_to_look_at() -> None:
    verdicts = check_training(tiny_recipe(), methods=["lora"], select=["distributed"])
    assert {(v.status, v.reason) for v in verdicts} == {
        ("not applicable", "the recipe trains in one process (Recipe.processes)")
    }


def test_too_few_rows_for_an_update_leave_the_checks_not_applicable() -> None:
    recipe = tiny_recipe(processes=2, strategy="ddp", train_data=tiny_recipe().train_data[:7])
    (verdict,) = check_training(recipe, methods=["lora"], select=["each-row-on-one-rank"])
    assert verdict.reason == "train_data has 7 rows; an update of all processes takes 8"


def test_a_rank_that_dies_blocks_the_checks_and_not_the_others() -> None:
    import dying

    recipe = tiny_recipe(processes=2, strategy="ddp", train=dying.killed)
    verdicts = check_training(recipe, methods=["lora"], select=["gradients-are-synchronised", "training-completes"])
    assert [v.status for v in verdicts] == ["passed", "blocked"]
    assert "rank 1 of 2: died (SIGKILL)" in verdicts[1].reason
