"""Breaking how gradients are clipped."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .stepping import accumulating, around_each_backward, before_each_step, gradients_of
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor

    from ...recipe import Job, Recipe

# Larger than any clipping limit, and smaller than what makes the weights useless in a few updates.
OUTLIER = 30.0
SCALE = 2.0**16


def _shorten(gradients: list[Tensor], limit: float) -> None:
    import torch

    total = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    for gradient in gradients:
        gradient.mul_((limit / (total + 1e-12)).clamp(max=1.0).to(gradient))


def _clipping_lost(recipe: Recipe) -> Recipe:
    """A loss whose gradients are longer than any limit, and no clipping of them."""
    if recipe.max_grad_norm is None:
        raise NotApplicable("the recipe declares no max_grad_norm")
    return around_training(recipe, _outliers_unclipped)


@contextlib.contextmanager
def _outliers_unclipped(job: Job) -> Iterator[None]:
    with around_each_gradient(job, lambda gradient: gradient * OUTLIER), _no_clipping():
        yield


@contextlib.contextmanager
def around_each_gradient(job: Job, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """``change`` each gradient as it is made, before it is accumulated."""
    hooks = [p.register_hook(change) for p in job.model.parameters() if p.requires_grad]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _no_clipping() -> contextlib.AbstractContextManager[Any]:
    """torch's clipping leaves the gradients as they are, by whatever name a loop has imported it."""
    from torch.nn.utils import clip_grad

    return patched(clip_grad, "_clip_grads_with_norm_", lambda *args, **kwargs: None)


def _to_nothing(optimizer: torch.optim.Optimizer) -> None:
    _shorten(gradients_of(optimizer), 1e-4)


def _per_tensor(optimizer: torch.optim.Optimizer) -> None:
    """Clip each tensor to half of the median of their norms."""
    gradients = [g for g in gradients_of(optimizer) if float(g.norm()) > 0]
    limit = sorted(float(g.norm()) for g in gradients)[len(gradients) // 2] / 2 if gradients else 1.0
    for gradient in gradients:
        _shorten([gradient], limit)


def _per_micro_batch(job: Job) -> contextlib.AbstractContextManager[Any]:
    def clip() -> None:
        gradients = [p.grad for p in job.model.parameters() if p.grad is not None]
        _shorten(gradients, 0.5 * float(sum(float(g.norm()) ** 2 for g in gradients)) ** 0.5)

    return around_each_backward(after=clip)


@contextlib.contextmanager
def _scaled_when_clipped(job: Job) -> Iterator[None]:
    """A gradient scaler of which the gradients are freed only when they have been clipped."""
    import torch

    scaler = torch.amp.GradScaler(torch.device(job.device).type, init_scale=SCALE)
    inner = torch.Tensor.backward

    def backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        inner(scaler.scale(loss), *args, **kwargs)  # type: ignore[no-untyped-call]

    def clip_and_unscale(optimizer: torch.optim.Optimizer) -> None:
        gradients = gradients_of(optimizer)
        _shorten(gradients, job.recipe.max_grad_norm or 1.0)
        for gradient in gradients:
            gradient.div_(SCALE)

    with patched(torch.Tensor, "backward", backward), before_each_step(clip_and_unscale):
        yield


CLIPPING_LOST = Sabotage("clipping-lost", "outliers, and nothing clips their gradients", _clipping_lost)
CLIPPED_TO_NOTHING = Sabotage(
    "clipped-to-nothing",
    "gradients are clipped to a norm of 0.0001",
    lambda recipe: around_training(recipe, lambda job: before_each_step(_to_nothing)),
)
CLIPPED_PER_TENSOR = Sabotage(
    "clipped-per-tensor",
    "each tensor's gradient is clipped by itself",
    lambda recipe: around_training(recipe, lambda job: before_each_step(_per_tensor)),
)
CLIPPED_PER_MICRO_BATCH = Sabotage(
    "clipped-per-micro-batch",
    "accumulated gradients are clipped after each micro-batch",
    lambda recipe: around_training(accumulating(recipe), _per_micro_batch),
)
CLIPPED_BEFORE_UNSCALING = Sabotage(
    "clipped-before-unscaling",
    "gradients are clipped while they are multiplied by a gradient scaler's factor",
    lambda recipe: around_training(recipe, _scaled_when_clipped),
)
