"""Breaking dropout and the training flag."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .movement import longest_list
from .parameters import adapted_by, in_adapted
from .stepping import after_each_step
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from ...recipe import Job, Recipe


def _before_each_pass(change: Callable[[nn.Module, int], None]) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: ``change(model, updates so far)`` is called before each forward pass of the training."""

    @contextlib.contextmanager
    def hooked(job: Job) -> Iterator[None]:
        steps: list[Any] = []
        hook = job.model.register_forward_pre_hook(lambda model, _: change(model, len(steps)), prepend=True)
        try:
            with after_each_step(steps.append):
                yield
        finally:
            hook.remove()

    def apply(recipe: Recipe) -> Recipe:
        from ..mode import dropout_rates

        if not any(dropout_rates(adapted_by(recipe, kind)) for kind in ("full", "adapter") if _declares(recipe, kind)):
            raise NotApplicable("the recipe's model has no dropout")
        return around_training(recipe, hooked)

    return apply


def _declares(recipe: Recipe, kind: str) -> bool:
    from ...methods import Full

    return any(isinstance(method, Full) == (kind == "full") for method in recipe.declared_methods.values())


def _always_in_eval_mode(model: nn.Module, _: int) -> None:
    model.eval()


def _in_eval_mode_later(model: nn.Module, steps: int) -> None:
    if steps >= 3:
        model.eval()


def _train_where_nothing_is_recorded(model: nn.Module, _: int) -> None:
    import torch

    if not torch.is_grad_enabled():
        model.train()


@contextlib.contextmanager
def _gradients_everywhere(_: Job) -> Iterator[None]:
    import torch

    with patched(torch, "no_grad", torch.enable_grad), patched(torch, "inference_mode", torch.enable_grad):
        yield


def _more_dropout(model: nn.Module) -> None:
    """Every dropout of a half where there is one."""
    from torch import nn

    from ..mode import dropout_rates

    rates = dropout_rates(model)
    if not rates:
        raise NotApplicable("the recipe's model has no dropout")
    for name in rates:
        module: Any = model.get_submodule(name)
        if isinstance(module, nn.Dropout):
            module.p = 0.5
        for attribute, value in list(vars(module).items()):
            if isinstance(value, float) and value == rates[name]:
                setattr(module, attribute, 0.5)


def _dropout_for_ever(model: nn.Module) -> None:
    longest_list(model)[0].register_forward_hook(_dropped)


def _dropped(_: nn.Module, args: Any, output: Any) -> Any:
    import torch.nn.functional as F

    if isinstance(output, tuple):
        return (F.dropout(output[0], 0.1), *output[1:])
    return F.dropout(output, 0.1)


def _seeded_again(model: nn.Module, _: int) -> None:
    import torch

    torch.manual_seed(0)


def _on_training_rows(recipe: Recipe) -> Recipe:
    if recipe.eval_data is None:
        raise NotApplicable("the recipe has no eval_data")

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        held, job.eval_data = job.eval_data, job.train_data
        try:
            yield
        finally:
            job.eval_data = held

    return around_training(recipe, context)


NEVER_IN_TRAINING_MODE = Sabotage(
    "never-in-training-mode", "the model trains in evaluation mode", _before_each_pass(_always_in_eval_mode)
)
NOT_BACK_IN_TRAINING_MODE = Sabotage(
    "not-back-in-training-mode",
    "after some updates the model stays in evaluation mode",
    _before_each_pass(_in_eval_mode_later),
)
EVALUATES_IN_TRAINING_MODE = Sabotage(
    "evaluates-in-training-mode",
    "evaluations leave dropout on",
    _before_each_pass(_train_where_nothing_is_recorded),
)
EVALUATION_RECORDS = Sabotage(
    "evaluation-records",
    "evaluations record gradients",
    lambda recipe: around_training(recipe, _gradients_everywhere),
)
DROPOUT_CHANGED = Sabotage("dropout-changed", "every dropout is set to a half", in_adapted(_more_dropout, "any"))
DROPOUT_STAYS_ON = Sabotage(
    "dropout-stays-on", "the first layer drops out in evaluation too", in_adapted(_dropout_for_ever, "any")
)
SEEDED_IN_EVERY_UPDATE = Sabotage(
    "seeded-in-every-update", "the same seed is set before every forward pass", _before_each_pass(_seeded_again)
)
EVALUATES_ON_TRAINING_ROWS = Sabotage(
    "evaluates-on-training-rows", "evaluations are given the training data", _on_training_rows
)
