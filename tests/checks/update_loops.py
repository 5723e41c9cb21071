"""A training loop of the usual kind with a place to change at each of its moments, and recipes around it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.catalogue import catalogue
from pytest_ftcheck.checks.examination import examine
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.tasks.instruction import instruction_recipe
from pytest_ftcheck.tasks.loop import epochs

Optimizer = torch.optim.Optimizer
THEMES = ("optimizer", "schedule")


def adamw(job: Job, **settings: Any) -> Optimizer:
    return torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr, **settings)


def clip(job: Job, limit: float = 1.0) -> None:
    torch.nn.utils.clip_grad_norm_([p for p in job.model.parameters() if p.requires_grad], limit)


def nothing(*_: Any) -> None:
    """Does nothing."""


def step_and_zero(optimizer: Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad()


def a_loop(
    job: Job,
    *,
    optimizer: Callable[[Job], Optimizer] = adamw,
    schedule: Callable[[Optimizer, Job], Any] | None = None,
    begin: Callable[[Job, Optimizer, int], Any] = nothing,
    after_backward: Callable[[Job], None] = nothing,
    before_step: Callable[[Job], None] = clip,
    step: Callable[[Optimizer], None] = step_and_zero,
    advance: Callable[[Any, int], None] = lambda made, _: made.step(),
) -> None:
    """``begin(job, optimizer, update)`` may return an optimizer that takes the other's place; ``update`` is from 0."""
    torch.manual_seed(job.seed)
    built = optimizer(job)
    made = schedule(built, job) if schedule else None
    windows = epochs(job)
    job.model.train()
    for update in range(job.steps):
        built = begin(job, built, update) or built
        window = next(windows)
        for rows in window:
            (job.loss(job.model, job.collate(rows)) / len(window)).backward()
            after_backward(job)
        before_step(job)
        step(built)
        if made is not None:
            advance(made, update)


def loop_recipe(*, loop: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    """The instruction task, trained by ``a_loop(**loop)``, with nothing declared that the loop may not do."""
    undeclared: dict[str, Any] = dict(optimizer=None, weight_decay=None, max_grad_norm=None)
    return instruction_recipe(train=functools.partial(a_loop, **(loop or {})), **{**undeclared, **parts})


def alarms(recipe: Recipe, method: str = "lora") -> list[str]:
    """The ids of the checks of the optimizer and the schedule that fail on ``recipe``."""
    evidence = Evidence(recipe, method)
    verdicts = [examine(check, evidence) for check in catalogue() if check.theme in THEMES]
    return [verdict.check for verdict in verdicts if verdict.failed]
