from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.update_loops import Optimizer, alarms, clip, loop_recipe, step_and_zero
from torch.optim import lr_scheduler

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]


def linear(optimizer: Optimizer, job: Job, share: float = 1.0) -> Any:
    """Linear decay to 0 over ``share`` of the updates."""
    return lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / (share * job.steps)))


def scheduled(schedule: Callable[[Optimizer, Job], Any], **loop: Any) -> Recipe:
    return loop_recipe(loop={"schedule": schedule, **loop})


HEALTHY: dict[str, Callable[[Optimizer, Job], Any]] = {
    "linear": linear,
    "warm-up-from-0": lambda o, job: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 4)),
    "long-warm-up": lambda o, job: lr_scheduler.LambdaLR(o, lambda step: step / 2000),
    "cosine": lambda o, job: lr_scheduler.CosineAnnealingLR(o, job.steps),
    "restarts": lambda o, job: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "one-cycle": lambda o, job: lr_scheduler.OneCycleLR(o, max_lr=job.lr, total_steps=job.steps + 1),
    "warm-up-and-cosine": lambda o, job: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(o, job.steps)], [3]
    ),
    "constant": lambda o, job: lr_scheduler.LambdaLR(o, lambda step: 1.0),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_sound_schedule_raises_no_alarm(name: str) -> None:
    assert alarms(scheduled(HEALTHY[name])) == []


def test_a_schedule_by_epochs_raises_no_alarm() -> None:
    def each_epoch(made: Any, update: int) -> None:
        if update % 3 == 2:
            made.step()

    assert alarms(scheduled(lambda o, job: lr_scheduler.StepLR(o, 1, 0.5), advance=each_epoch)) == []


def test_a_loop_that_sets_the_rate_by_itself_raises_no_alarm() -> None:
    def begin(job: Job, optimizer: Optimizer, update: int) -> None:
        optimizer.param_groups[0]["lr"] = job.lr * min(1.0, (update + 1) / 4)

    assert alarms(loop_recipe(loop={"begin": begin})) == []


@pytest.mark.parametrize(("rate", "told"), [(10.0, "10 times the declared"), (0.0, "is 0 in all 8 updates")])
def test_another_rate_than_the_declared_one_is_found(verdict_on: VerdictOn, rate: float, told: str) -> None:
    def build(job: Job) -> Optimizer:
        return torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=rate * job.lr)

    verdict = verdict_on("learning-rate-as-declared", loop_recipe(loop={"optimizer": build}))
    assert told in verdict.findings[0].summary


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (lambda step: 5e-3 * (1 - step / 8), "never exceeds 0.005 times its base"),
        (lambda step: step + 1, "raises the learning rate to 8 times its base"),
    ],
    ids=["a-rate", "a-step"],
)
def test_a_function_that_returns_no_factor_is_found(
    verdict_on: VerdictOn, factor: Callable[[int], float], told: str
) -> None:
    recipe = scheduled(lambda o, job: lr_scheduler.LambdaLR(o, factor))
    assert told in verdict_on("learning-rate-as-declared", recipe).findings[0].summary


def test_a_step_of_the_schedule_for_every_micro_batch_is_found(verdict_on: VerdictOn) -> None:
    made: list[Any] = []

    def keep(optimizer: Optimizer, job: Job) -> Any:
        made[:] = [linear(optimizer, job)]
        return made[0]

    def each_micro_batch(job: Job) -> None:
        made[0].step()

    recipe = scheduled(keep, after_backward=each_micro_batch, advance=lambda *_: None)
    verdict = verdict_on("schedule-steps-once-an-update", recipe)
    assert verdict.findings[0].summary == "the learning rate changes between micro-batches in 3 of 8 updates"


def test_two_steps_of_the_schedule_after_an_update_are_found(verdict_on: VerdictOn) -> None:
    def twice(made: Any, update: int) -> None:
        made.step()
        made.step()

    verdict = verdict_on("schedule-steps-once-an-update", scheduled(linear, advance=twice))
    assert verdict.findings[0].summary == "the schedule steps more than once in 7 of 8 updates"


def test_a_schedule_that_steps_before_the_optimizer_is_found(verdict_on: VerdictOn) -> None:
    made: list[Any] = []

    def keep(optimizer: Optimizer, job: Job) -> Any:
        made[:] = [linear(optimizer, job)]
        return made[0]

    def schedule_first(optimizer: Optimizer) -> None:
        made[0].step()
        step_and_zero(optimizer)

    verdict = verdict_on(
        "schedule-follows-the-optimizer", scheduled(keep, step=schedule_first, advance=lambda *_: None)
    )
    assert verdict.findings[0].summary == "the schedule steps before the optimizer in 8 of 8 updates"


def test_a_schedule_that_never_steps_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("schedule-follows-the-optimizer", scheduled(linear, advance=lambda *_: None))
    assert verdict.findings[0].cause == "scheduler.step() is missing from the loop"


def test_a_schedule_built_in_each_epoch_is_found(verdict_on: VerdictOn) -> None:
    def begin(job: Job, optimizer: Optimizer, update: int) -> None:
        if update in (3, 6):
            linear(optimizer, job)

    verdict = verdict_on("schedule-follows-the-optimizer", loop_recipe(loop={"schedule": linear, "begin": begin}))
    assert "built anew 2 times during the training, first after update 3" in verdict.findings[0].summary


def test_a_schedule_that_ends_early_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("schedule-lasts-to-the-end", scheduled(lambda o, job: linear(o, job, 0.5)))
    assert verdict.findings[0].summary == "the learning rate is 0 or less in 4 of 8 updates, from update 5 on"


def test_a_schedule_counted_in_micro_batches_is_found(verdict_on: VerdictOn) -> None:
    recipe = scheduled(lambda o, job: linear(o, job, float(job.accumulation)))
    verdict = verdict_on("schedule-counts-updates", recipe)
    assert "with an accumulation of 1 in place of 2" in verdict.findings[0].summary


def test_a_schedule_rounded_up_to_whole_epochs_raises_no_alarm() -> None:
    def rounded(optimizer: Optimizer, job: Job) -> Any:
        batches = math.ceil(len(job.train_data) / job.batch_size)
        an_epoch = math.ceil(batches / job.accumulation)
        total = math.ceil(job.steps / an_epoch) * an_epoch
        return lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total))

    assert alarms(loop_recipe(loop={"schedule": rounded, "before_step": clip})) == []
