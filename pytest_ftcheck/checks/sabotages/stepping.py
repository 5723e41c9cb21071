"""Moments of somebody else's training at which a sabotage can do its work: a backward pass, an optimizer, its step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from .wrapping import patched

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...recipe import Recipe


def accumulating(recipe: Recipe) -> Recipe:
    """``recipe`` itself. NotApplicable where its updates have a single micro-batch."""
    if recipe.accumulation < 2:
        raise NotApplicable("the recipe does not accumulate gradients")
    return recipe


@contextlib.contextmanager
def before_each_step(change: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """``change(optimizer)`` before each optimizer step, and before anyone who watches it."""
    from torch.optim import optimizer as module

    hook = module.register_optimizer_step_pre_hook(lambda optimizer, *_: change(optimizer))
    module._global_optimizer_pre_hooks.move_to_end(hook.id, last=False)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def after_each_step(change: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """``change(optimizer)`` after each optimizer step, except those that it makes itself."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    busy: list[bool] = []

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not busy:
            busy.append(True)
            change(optimizer)
            busy.clear()

    hook = register_optimizer_step_post_hook(stepped)
    try:
        yield
    finally:
        hook.remove()


def around_each_backward(
    before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> contextlib.AbstractContextManager[Any]:
    """Do something before and after each backward pass of a scalar."""
    import torch

    inner = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        outermost = isinstance(tensors, torch.Tensor) and tensors.dim() == 0
        if outermost and before is not None:
            before()
        inner(tensors, *args, **kwargs)
        if outermost and after is not None:
            after()

    return patched(torch.autograd, "backward", backward)


def with_other_groups(change: Callable[[dict[str, Any]], None]) -> contextlib.AbstractContextManager[Any]:
    """``change(group)`` on each parameter group that is given to a torch optimizer, before it is taken in."""
    import torch

    inner = torch.optim.Optimizer.add_param_group

    def add(this: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        params = group["params"]
        group = {**group, "params": [params] if isinstance(params, torch.Tensor) else list(params)}
        change(group)
        inner(this, group)

    return patched(torch.optim.Optimizer, "add_param_group", add)


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients that a step of ``optimizer`` would use."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
