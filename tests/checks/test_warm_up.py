"""Warm-ups that end, and that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import instruction_recipe

VerdictOn = Callable[..., Verdict]
ID = "warm-up-ends-before-the-training"


def warming_up(factor: Callable[[int, int], float]) -> Recipe:
    """AdamW at ``factor(update, updates)`` of its rate; the horizon is 60 updates."""

    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, job.steps))
        for update in range(job.steps):
            rows = [job.train_data[(4 * update + i) % len(job.train_data)] for i in range(4)]
            job.loss(job.model, job.collate(rows)).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return instruction_recipe(train=train, steps=60, accumulation=1)


@pytest.mark.parametrize(
    "factor",
    [
        lambda step, steps: 1.0,
        lambda step, steps: min(1.0, step / 30),
        lambda step, steps: min(1.0, (step + 1) / (0.5 * steps)),
        lambda step, steps: 1 - step / steps,
    ],
    ids=["constant", "30 updates", "half of the training", "decay"],
)
def test_a_warm_up_that_ends_is_sound(verdict_on: VerdictOn, factor: Callable[[int, int], float]) -> None:
    assert verdict_on(ID, warming_up(factor)).status == "passed"


@pytest.mark.parametrize("share", [1.0, 4.0], ids=["all of the training", "counted in micro-batches"])
def test_a_warm_up_that_does_not_end_is_found(verdict_on: VerdictOn, share: float) -> None:
    verdict = verdict_on(ID, warming_up(lambda step, steps: min(1.0, step / (share * steps))))
    assert f"takes {share:g} times the training, of 60" in str(verdict)


def test_a_number_of_updates_that_is_that_of_a_longer_training_is_not_judged(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(ID, warming_up(lambda step, steps: min(1.0, step / 500)))
    assert (verdict.status, verdict.reason) == (
        "not applicable",
        "the warm-up takes 500 updates, of 60 at this recipe's horizon",
    )
