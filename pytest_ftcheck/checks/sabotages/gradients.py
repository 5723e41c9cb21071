"""Breaking how gradients are collected for an update."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .stepping import accumulating, after_each_step, around_each_backward, before_each_step, gradients_of
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from ...recipe import Job, Recipe


@contextlib.contextmanager
def _no_zeroing(job: Job) -> Iterator[None]:
    import torch

    def nothing(*_: Any, **__: Any) -> None:
        """In place of zero_grad."""

    with patched(torch.optim.Optimizer, "zero_grad", nothing), patched(torch.nn.Module, "zero_grad", nothing):
        yield


def _zeroed_first(job: Job) -> contextlib.AbstractContextManager[Any]:
    def zero() -> None:
        for parameter in job.model.parameters():
            parameter.grad = None

    return around_each_backward(before=zero)


def _zero(optimizer: torch.optim.Optimizer) -> None:
    for gradient in gradients_of(optimizer):
        gradient.zero_()


def _negate(optimizer: torch.optim.Optimizer) -> None:
    for gradient in gradients_of(optimizer):
        gradient.neg_()


@contextlib.contextmanager
def _without_accumulation(job: Job) -> Iterator[None]:
    declared, job.accumulation = job.accumulation, 1
    try:
        yield
    finally:
        job.accumulation = declared


def _again(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def _zeroed_per_micro_batch(recipe: Recipe) -> Recipe:
    return around_training(accumulating(recipe), _zeroed_first)


def _update_per_micro_batch(recipe: Recipe) -> Recipe:
    return around_training(accumulating(recipe), _without_accumulation)


NO_ZERO_GRAD = Sabotage(
    "no-zero-grad", "zero_grad is never called", lambda recipe: around_training(recipe, _no_zeroing)
)
ZEROED_PER_MICRO_BATCH = Sabotage(
    "zeroed-per-micro-batch", "gradients are zeroed before each micro-batch", _zeroed_per_micro_batch
)
ZEROED_BEFORE_STEP = Sabotage(
    "zeroed-before-step",
    "gradients are zeroed between the backward pass and the step",
    lambda recipe: around_training(recipe, lambda job: before_each_step(_zero)),
)
GRADIENTS_NEGATED = Sabotage(
    "gradients-negated",
    "the step goes up the gradient",
    lambda recipe: around_training(recipe, lambda job: before_each_step(_negate)),
)
UPDATE_PER_MICRO_BATCH = Sabotage(
    "update-per-micro-batch", "the optimizer steps at every micro-batch", _update_per_micro_batch
)
STEPS_TWICE = Sabotage(
    "steps-twice",
    "the optimizer steps twice in an update",
    lambda recipe: around_training(recipe, lambda job: after_each_step(_again)),
)
