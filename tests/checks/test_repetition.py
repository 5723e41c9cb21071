from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_ftcheck import Job
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe

EVALUATION = "evaluation-leaves-row-order-alone"
SEED = "same-seed-same-training"

VerdictOn = Callable[..., Verdict]


def shuffling_with(
    draw: Callable[[Job], list[int]], *, evaluates: bool = True, eager: bool = False
) -> Callable[[Job], None]:
    """A loop that takes the order of each epoch from ``draw(job)``. An ``eager`` one makes an update of every batch as
    soon as it has been evaluated: what accelerate did before 0.20.
    """

    def train(job: Job) -> None:
        torch.manual_seed(job.seed)
        random.seed(job.seed)
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        job.model.train()
        order: list[int] = []
        accumulation = job.accumulation
        for update in range(1, job.steps + 1):
            for _ in range(accumulation):
                order = order if len(order) >= job.batch_size else draw(job)
                taken, order = order[: job.batch_size], order[job.batch_size :]
                (job.loss(job.model, job.collate([job.train_data[i] for i in taken])) / accumulation).backward()
            optimizer.step()
            optimizer.zero_grad()
            if evaluates and job.eval_steps and update % job.eval_steps == 0:
                loop.evaluate(job)
                torch.rand(1)  # what a data loader draws to seed its workers
                accumulation = 1 if eager else accumulation

    return train


def by_global_generator(job: Job) -> list[int]:
    return torch.randperm(len(job.train_data)).tolist()


def by_own_generator(job: Job) -> list[int]:
    return torch.randperm(len(job.train_data), generator=torch.Generator().manual_seed(job.seed)).tolist()


def by_chance(job: Job) -> list[int]:
    order = list(range(len(job.train_data)))
    random.SystemRandom().shuffle(order)
    return order


@pytest.mark.parametrize(
    ("train", "status", "cause"),
    [
        (shuffling_with(by_own_generator), "passed", ""),
        (shuffling_with(by_global_generator), "failed", "the generator that shuffles"),
        (shuffling_with(by_own_generator, eager=True), "failed", "counts the micro-batches"),
        (shuffling_with(by_own_generator, evaluates=False), "not applicable", ""),
    ],
    ids=["own generator", "global generator", "updates too early", "never evaluates"],
)
def test_what_an_evaluation_does_to_the_rows_is_found(
    verdict_on: VerdictOn, train: Any, status: str, cause: str
) -> None:
    verdict = verdict_on(EVALUATION, instruction_recipe(train=train))
    assert verdict.status == status, verdict
    assert not cause or cause in verdict.findings[0].cause


def test_an_evaluation_that_moves_the_generator_of_dropout_is_no_finding(verdict_on: VerdictOn) -> None:
    """It changes the weights in every release of transformers, and nothing that matters."""

    def train(job: Job) -> None:
        if job.eval_steps:
            torch.rand(1)
        shuffling_with(by_own_generator)(job)

    assert verdict_on(EVALUATION, instruction_recipe(train=train)).status == "passed"


def test_recipes_without_evaluation_data_are_not_judged(verdict_on: VerdictOn) -> None:
    assert verdict_on(EVALUATION, instruction_recipe(eval_data=None)).status == "not applicable"


@pytest.mark.parametrize(("draw", "status"), [(by_chance, "failed"), (by_global_generator, "passed")])
def test_rows_in_an_order_that_no_seed_gives_are_found(verdict_on: VerdictOn, draw: Any, status: str) -> None:
    verdict = verdict_on(SEED, instruction_recipe(train=shuffling_with(draw)))
    assert verdict.status == status, verdict


def test_weights_that_outlive_the_training_are_found(verdict_on: VerdictOn) -> None:
    from pytest_ftcheck.tasks.instruction import tiny_llama

    shared = tiny_llama()
    verdict = verdict_on(SEED, instruction_recipe(model=lambda: shared, lora=None), "full")
    assert verdict.status == "failed", verdict
    assert "outlives the training" in verdict.findings[0].cause
