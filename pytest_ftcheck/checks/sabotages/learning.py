"""Breaking what makes a training learn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .stepping import gradients_of
from .wrapping import around_training

if TYPE_CHECKING:
    from torch import nn

    from ...recipe import Job


@contextlib.contextmanager
def _gradients_negated(job: Job) -> Iterator[None]:
    """Just before the optimizer steps, and after everybody who watches it: as an optimizer that climbs would."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def negate(optimizer: Any, args: Any, kwargs: Any) -> None:
        for gradient in gradients_of(optimizer):
            gradient.neg_()

    hook = register_optimizer_step_pre_hook(negate)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _logit_gradients_negated(job: Job) -> Iterator[None]:
    """The loss falls where it should rise, behind the logits' back."""
    from ...observers.loss import logits_of

    def hooked(model: nn.Module, args: Any, output: Any) -> None:
        logits = logits_of(output)
        if logits is not None and logits.requires_grad:
            logits.register_hook(lambda gradient: -gradient)  # type: ignore[no-untyped-call]

    hook = job.model.register_forward_hook(hooked)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _weights_put_back(job: Job) -> Iterator[None]:
    import torch

    before = [parameter.detach().clone() for parameter in job.model.parameters()]
    yield
    with torch.no_grad():
        for parameter, value in zip(job.model.parameters(), before, strict=True):
            parameter.copy_(value)


OBJECTIVE_CLIMBED = Sabotage(
    "objective-climbed", "each update climbs", lambda recipe: around_training(recipe, _gradients_negated)
)
LOGIT_GRADIENTS_NEGATED = Sabotage(
    "logit-gradients-negated",
    "gradients change their sign on the way back from the logits",
    lambda recipe: around_training(recipe, _logit_gradients_negated),
)
WEIGHTS_PUT_BACK = Sabotage(
    "weights-put-back",
    "after training the weights are what they were before",
    lambda recipe: around_training(recipe, _weights_put_back),
)
