"""Breaking how a training behaves."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .parameters import after_each_update
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...recipe import Job, Recipe


def _raises(recipe: Recipe) -> Recipe:
    def train(job: Job) -> None:
        raise RuntimeError("broken on purpose")

    return recipe.replace(train=train)


@contextlib.contextmanager
def _of_half_the_steps(job: Job) -> Iterator[None]:
    steps, job.steps = job.steps, max(1, job.steps // 2)
    try:
        yield
    finally:
        job.steps = steps


@contextlib.contextmanager
def _of_a_copy(job: Job) -> Iterator[None]:
    """The loop gets a copy of the model, and nobody is told."""
    given, job.model = job.model, copy.deepcopy(job.model)
    told, job.on_model = job.on_model, None
    try:
        yield
    finally:
        job.model, job.on_model = given, told


@contextlib.contextmanager
def _without_backward(_: Job) -> Iterator[None]:
    import torch

    def nothing(*_: Any, **__: Any) -> None:
        return None

    with patched(torch.autograd, "backward", nothing), patched(torch.Tensor, "backward", nothing):
        yield


def _spoil_gradient(job: Job, steps: int) -> None:
    """From the fifth update on a weight is not a number, and with it all that is computed from it."""
    import torch

    if steps == 5:
        with torch.no_grad():
            next(p for p in job.model.parameters() if p.requires_grad).flatten()[:1].fill_(float("nan"))


@contextlib.contextmanager
def _leaves_settings(_: Job) -> Iterator[None]:
    import torch

    yield
    torch.set_default_dtype(torch.float64)


RAISES = Sabotage("training-raises", "train(job) raises an error", _raises)
STOPS_EARLY = Sabotage(
    "stops-early", "train(job) makes half of the updates", lambda recipe: around_training(recipe, _of_half_the_steps)
)
ANOTHER_MODEL = Sabotage(
    "another-model",
    "train(job) trains a copy of the model, and says so to nobody",
    lambda recipe: around_training(recipe, _of_a_copy),
)
NEVER_BACKWARD = Sabotage(
    "never-backward", "backward() is never called", lambda recipe: around_training(recipe, _without_backward)
)
GRADIENT_NOT_A_NUMBER = Sabotage(
    "gradient-not-a-number", "from some update on a weight is NaN", after_each_update(_spoil_gradient)
)
SETTINGS_LEFT = Sabotage(
    "settings-left",
    "torch's default dtype is another one after the training",
    lambda r: around_training(r, _leaves_settings),
)
