"""Trainings that do not learn are found, whatever the sign of the mistake; slow and hot ones are not reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.evidence.objective import holding, model_copy, objective
from pytest_ftcheck.tasks.instruction import instruction_recipe
from pytest_ftcheck.tasks.loop import epochs
from pytest_ftcheck.tasks.planted import NARROW, planted_recipe
from pytest_ftcheck.training import model_loss

Judge = Callable[..., Verdict]
CHECKS = [
    "update-goes-downhill",
    "loss-falls-along-the-update",
    "loss-falls-on-few-rows",
    "training-changes-the-outputs",
]


def with_optimizer(make: Callable[..., torch.optim.Optimizer], **changes: Any) -> Recipe:
    def train(job: Job) -> None:
        optimizer = make([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        windows = epochs(job)
        job.model.train()
        for _ in range(job.steps):
            for rows in next(windows):
                (job.loss(job.model, job.collate(rows)) / job.accumulation).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return instruction_recipe(**{"train": train, **changes})


def test_an_optimizer_that_climbs_is_found(verdict_on: Judge) -> None:
    recipe = with_optimizer(lambda p, lr: torch.optim.AdamW(p, lr=lr, maximize=True))
    assert "maximize=True" in str(verdict_on("update-goes-downhill", recipe))
    assert verdict_on("loss-falls-on-few-rows", recipe).status == "failed"


def test_a_loss_with_the_wrong_sign_is_found(verdict_on: Judge) -> None:
    def negated(model: nn.Module, batch: Any) -> Tensor:
        return -model_loss(model, batch)

    def declared(model: nn.Module, batch: Any) -> Tensor:
        # What training minimises is negated; what the recipe says its loss is, is not.
        return negated(model, batch) if torch.is_grad_enabled() else model_loss(model, batch)

    recipe = instruction_recipe(loss=declared)
    assert verdict_on("loss-falls-on-few-rows", recipe, "full").status == "failed"


HEALTHY: dict[str, Recipe] = {
    "tiny rate": instruction_recipe(full=Full(lr=1e-5)),
    "hot rate": instruction_recipe(full=Full(lr=3e-2)),
    "SGD": with_optimizer(lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    "decay of a tenth": with_optimizer(lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.1)),
    "bfloat16": instruction_recipe(dtype="bfloat16"),
    "a divergence": planted_recipe(NARROW, "narrow"),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_training_that_learns_is_not_reported(kind: str) -> None:
    verdicts = check_training(HEALTHY[kind], methods=["full"], select=CHECKS)
    assert [v.status for v in verdicts] == ["passed"] * 4, verdicts


def test_a_normalisation_that_is_not_differentiated_is_not_reported() -> None:
    recipe = instruction_recipe(lora=LoRA(r=4, use_dora=True, target_modules=["q_proj", "down_proj"], lr=5e-3))
    assert [v.status for v in check_training(recipe, methods=["lora"], select=CHECKS)] == ["passed"] * 4


def test_a_warm_up_from_zero_is_not_reported() -> None:
    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))
        windows = epochs(job)
        for _ in range(job.steps):
            for rows in next(windows):
                job.loss(job.model, job.collate(rows)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            warm_up.step()
            optimizer.zero_grad()

    verdicts = check_training(instruction_recipe(train=train), methods=["lora"], select=CHECKS)
    assert [v.status for v in verdicts] == ["passed"] * 4


def test_an_adapter_that_is_switched_off_at_the_end_is_found(verdict_on: Judge) -> None:
    inner = with_optimizer(torch.optim.AdamW).train
    assert inner is not None

    def train(job: Job) -> None:
        inner(job)
        job.model.base_model.disable_adapter_layers()  # type: ignore[operator, union-attr]

    found = verdict_on("training-changes-the-outputs", instruction_recipe(train=train))
    assert "the adapter is switched off" in str(found)


def test_the_objective_is_the_loss_that_was_differentiated() -> None:
    evidence = Evidence(instruction_recipe(lambda: HEALTHY["tiny rate"].model(), accumulation=1), "full")
    first = evidence.trace.updates[0]
    model = model_copy(evidence)
    with holding(model, first.before):
        # Attention dropout of 0.1 in training, none here.
        assert objective(evidence, first.forwards)(model) == pytest.approx(first.loss, rel=0.02)
