"""Breaking what a training begins with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..check import Sabotage
from .parameters import in_adapted
from .wrapping import around_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor, nn

    from ...recipe import Job, Recipe


def _with_model(change: Callable[[nn.Module], nn.Module]) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: the base model goes through ``change``."""

    def apply(recipe: Recipe) -> Recipe:
        inner = recipe.model
        return recipe.replace(model=lambda: change(inner()))

    return apply


def _unseeded(model: nn.Module) -> nn.Module:
    """Draw the largest weight anew, from a generator that takes its seed from the system."""
    import torch

    generator = torch.Generator()
    generator.seed()
    _draw(max(model.parameters(), key=lambda p: p.numel()), generator)
    return model


def _draw(weight: nn.Parameter, generator: Generator | None) -> None:
    import torch

    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator).mul_(0.02).to(weight))


def _shared(recipe: Recipe) -> Recipe:
    """Every call returns a model that shares the weights of the first one."""
    kept: list[list[Tensor]] = []
    inner = recipe.model

    def model() -> nn.Module:
        made = inner()
        kept.append([parameter.data for parameter in made.parameters()])
        for parameter, first in zip(made.parameters(), kept[0], strict=True):
            parameter.data = first
        return made

    return recipe.replace(model=model)


def _redraw_frozen(model: nn.Module) -> None:
    """Draw anew the largest weight that the adapter leaves frozen; in full fine-tuning the largest of all."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    _draw(max(frozen or list(model.parameters()), key=lambda p: p.numel()), None)


@contextlib.contextmanager
def _redrawn_at_the_start(job: Job) -> Iterator[None]:
    """The training begins by drawing a trainable weight, and seeds the generators only after that."""
    _draw(max((p for p in job.model.parameters() if p.requires_grad), key=lambda p: p.numel()), None)
    yield


NOT_SEEDED = Sabotage("not-seeded", "a weight is drawn from a generator without the seed", _with_model(_unseeded))
MODEL_SHARED = Sabotage("model-shared", "model() returns the same weights at every call", _shared)
DRAWN_BEFORE_THE_SEED = Sabotage(
    "drawn-before-the-seed",
    "train(job) draws a trainable weight before it sets the seed",
    lambda recipe: around_training(recipe, _redrawn_at_the_start),
)
BASE_REDRAWN = Sabotage("base-redrawn", "adapting draws a weight of the base anew", in_adapted(_redraw_frozen, "any"))
LOADED_ANEW = Sabotage(
    "loaded-anew",
    "train(job) begins by drawing a weight of the given model anew",
    lambda recipe: around_training(recipe, _redrawn_at_the_start),
)
