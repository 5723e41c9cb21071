from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.update_loops import Optimizer, alarms, clip, loop_recipe

from pytest_ftcheck import Job
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]


def only_step(optimizer: Optimizer) -> None:
    optimizer.step()


def zero_some(optimizer: Optimizer) -> None:
    optimizer.step()
    for parameter in optimizer.param_groups[0]["params"][::2]:
        parameter.grad = None


def to_zeros(optimizer: Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)


def zero_first(optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    optimizer.step()


def zero_before(job: Job, optimizer: Optimizer, update: int) -> None:
    optimizer.zero_grad()


def test_gradients_that_pile_up_are_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("gradients-start-from-zero", loop_recipe(loop={"step": only_step}))
    assert verdict.findings[0].cause == "optimizer.zero_grad() is not called after each step"


def test_gradients_that_pile_up_in_some_parameters_are_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("gradients-start-from-zero", loop_recipe(loop={"step": zero_some}))
    assert verdict.findings[0].cause.endswith("for all that the optimizer holds")
    assert "in 8 of 16 tensors" in verdict.findings[0].summary


def test_gradients_of_a_trial_before_the_training_are_found(verdict_on: VerdictOn) -> None:
    def trial(job: Job, optimizer: Optimizer, update: int) -> None:
        if update == 0:
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = torch.ones_like(parameter)

    verdict = verdict_on("gradients-start-from-zero", loop_recipe(loop={"begin": trial}))
    assert verdict.findings[0].cause == "a backward pass before the training left its gradients"


@pytest.mark.parametrize(
    "loop",
    [{"step": to_zeros}, {"step": only_step, "begin": zero_before}],
    ids=["zeros-for-none", "zeroed-before-the-first-backward-pass"],
)
def test_wherever_gradients_are_zeroed_in_time_there_is_no_alarm(loop: dict[str, Any]) -> None:
    assert alarms(loop_recipe(loop=loop)) == []


def test_zeroing_before_the_step_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("gradients-reach-the-step", loop_recipe(loop={"step": zero_first}))
    assert "zero_grad() is called between backward() and optimizer.step()" in verdict.findings[0].cause


def test_gradients_set_aside_in_some_parameters_are_found(verdict_on: VerdictOn) -> None:
    def drop(job: Job) -> None:
        for name, parameter in job.model.named_parameters():
            if "lora_A" in name:
                parameter.grad = None

    verdict = verdict_on("gradients-reach-the-step", loop_recipe(loop={"before_step": drop}))
    assert "8 of 16 gradients are gone before the step" in verdict.findings[0].summary


def test_a_part_of_a_gradient_may_be_masked_out() -> None:
    def mask(job: Job) -> None:
        for parameter in job.model.parameters():
            if parameter.grad is not None and parameter.grad.dim() > 1:
                parameter.grad[0] = 0.0

    assert alarms(loop_recipe(loop={"before_step": mask})) == []


def test_gradients_that_are_averaged_after_accumulation_raise_no_alarm() -> None:
    def average(job: Job) -> None:
        for parameter in job.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= 2
        clip(job)

    assert alarms(loop_recipe(loop={"before_step": average})) == []


def with_a_tail(job: Job) -> None:
    """The index begins anew in each epoch, so that what is left of an epoch goes into the next one's first window."""
    optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
    updates, size = 0, job.batch_size
    while True:
        for index, start in enumerate(range(0, len(job.train_data), size), start=1):
            rows = [job.train_data[i] for i in range(start, min(start + size, len(job.train_data)))]
            (job.loss(job.model, job.collate(rows)) / job.accumulation).backward()
            if index % job.accumulation == 0:
                optimizer.step()
                optimizer.zero_grad()
                updates += 1
            if updates == job.steps:
                return


def test_an_epochs_tail_in_the_next_epoch_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("accumulation-as-declared", loop_recipe().replace(train=with_a_tail))
    assert verdict.findings[0].summary == "3 of 8 updates hold more than the declared 2 micro-batches"


def test_an_accumulation_of_the_loops_own_is_found(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        declared, job.accumulation = job.accumulation, 3
        inner(job)
        job.accumulation = declared

    recipe = loop_recipe(accumulation=1)
    inner = recipe.train
    assert inner is not None
    verdict = verdict_on("accumulation-as-declared", recipe.replace(train=train))
    assert verdict.findings[0].cause == "the loop accumulates by a number of its own and not by job.accumulation"
