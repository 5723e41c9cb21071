"""Breaking by how much the tokens of an update count."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .targets import refuse_other_models
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from torch import Tensor

    from ...recipe import Job, Recipe

# A mean over this many tokens that became a sum.
TOKENS = 32.0
SMOOTHING = 0.1


def scaled(factors: Callable[[], Iterator[float]]) -> Callable[[Job], contextlib.AbstractContextManager[None]]:
    """Multiplies each loss that ``backward`` is called on by the next of ``factors()``."""

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        import torch

        original, each = torch.autograd.backward, factors()

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            # Gradients that are not scalars come from within: reentrant checkpointing calls backward in backward.
            is_loss = isinstance(tensors, torch.Tensor) and tensors.dim() == 0
            original(tensors * next(each) if is_loss else tensors, *args, **kwargs)

        with patched(torch.autograd, "backward", backward):
            yield

    return context


def _summed(recipe: Recipe) -> Recipe:
    return around_training(recipe, scaled(lambda: itertools.repeat(TOKENS)))


def _weighted(recipe: Recipe) -> Recipe:
    if recipe.accumulation < 2:
        raise NotApplicable("accumulation is 1: an update has one micro-batch")
    return around_training(recipe, scaled(lambda: itertools.cycle((1.5, 0.5))))


def _smoothed(recipe: Recipe) -> Recipe:
    refuse_other_models(recipe)

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        import torch.nn.functional as F

        original, each = F.cross_entropy, itertools.cycle((0.0, SMOOTHING))

        def cross_entropy(input: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return original(input, target, *args, **{**kwargs, "label_smoothing": next(each)})

        with patched(F, "cross_entropy", cross_entropy):
            yield

    return around_training(recipe, context)


LOSS_SUMMED = Sabotage("loss-summed", f"the loss is {TOKENS:g} times the mean", _summed)
MICRO_BATCHES_WEIGHTED = Sabotage(
    "micro-batches-weighted", "one micro-batch counts three times as much as the next", _weighted
)
SMOOTHED_NOW_AND_THEN = Sabotage("smoothed-now-and-then", "every other batch has label smoothing", _smoothed)
