"""Breaking what an optimizer's step does to the parameters."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .stepping import after_each_step, before_each_step
from .wrapping import around_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import nn

    from ...recipe import Job, Recipe


def _stretched(factor: float) -> Callable[[Job], contextlib.AbstractContextManager[Any]]:
    """Every step moves the parameters ``factor`` times as far as the optimizer does."""

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        import torch
        from torch.optim import optimizer as module

        kept: dict[torch.Tensor, torch.Tensor] = {}

        def keep(optimizer: torch.optim.Optimizer) -> None:
            kept.update({p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]})

        def stretch(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            with torch.no_grad():
                for parameter, old in kept.items():
                    parameter.copy_(old + factor * (parameter - old))

        hook = module.register_optimizer_step_post_hook(stretch)
        module._global_optimizer_post_hooks.move_to_end(hook.id, last=False)  # type: ignore[attr-defined]
        try:
            with before_each_step(keep):
                yield
        finally:
            hook.remove()

    return context


def _forget(optimizer: torch.optim.Optimizer) -> None:
    optimizer.state.clear()


@contextlib.contextmanager
def _reset_once(job: Job) -> Iterator[None]:
    """After the second update the weights are what they were before the first."""
    import torch

    start = {name: p.detach().clone() for name, p in job.model.named_parameters()}
    steps: list[int] = []

    def back(module: nn.Module, *_: Any) -> None:
        if len(steps) == 2:
            steps.append(0)
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    if name in start:
                        parameter.copy_(start[name])

    hook = job.model.register_forward_pre_hook(back)
    try:
        with after_each_step(lambda _: steps.append(1)):
            yield
    finally:
        hook.remove()


def _in_two_halves(recipe: Recipe) -> Recipe:
    """The training is two, each of half the updates, and each with an optimizer of its own."""
    from ...training import train as default

    inner = recipe.train or default

    def train(job: Job) -> None:
        steps = job.steps
        try:
            for part in (steps // 2, steps - steps // 2):
                job.steps = part
                inner(job)
        finally:
            job.steps = steps

    return recipe.replace(train=train)


def _below_rounding(recipe: Recipe) -> Recipe:
    """In bfloat16, at a thousandth of the rate."""
    if recipe.full is None:
        raise NotApplicable("adapters are held in float32")
    full = dataclasses.replace(recipe.full, lr=recipe.full.lr / 1000)
    return recipe.replace(dtype="bfloat16", full=full)


STEP_DOUBLED = Sabotage(
    "step-doubled",
    "each step moves the parameters twice as far as the optimizer says",
    lambda recipe: around_training(recipe, _stretched(2.0)),
)
STEP_CHANGES_NOTHING = Sabotage(
    "step-changes-nothing",
    "the weights are put back within the step",
    lambda recipe: around_training(recipe, _stretched(0.0)),
)
STATE_FORGOTTEN = Sabotage(
    "state-forgotten",
    "the optimizer's state is cleared after each step",
    lambda recipe: around_training(recipe, lambda job: after_each_step(_forget)),
)
OPTIMIZER_REBUILT = Sabotage("optimizer-rebuilt", "the optimizer is built anew in the middle", _in_two_halves)
WEIGHTS_RESET = Sabotage(
    "weights-reset",
    "the weights are put back to their start once, between two updates",
    lambda recipe: around_training(recipe, _reset_once),
)
RATE_BELOW_ROUNDING = Sabotage("rate-below-rounding", "updates that bfloat16 rounds away", _below_rounding, "full")
