"""Putting something around a part of a recipe, whoever wrote that part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from ...recipe import Job, Recipe


def around_training(recipe: Recipe, context: Callable[[Job], contextlib.AbstractContextManager[Any]]) -> Recipe:
    """``recipe`` with its training in the body of ``context(job)``."""
    from ...training import train as default

    inner = recipe.train or default

    def train(job: Job) -> None:
        with context(job):
            inner(job)

    return recipe.replace(train=train)


def after_adapting(recipe: Recipe, change: Callable[[nn.Module], nn.Module | None]) -> Recipe:
    """``recipe`` whose adapted model goes through ``change``, which may return another one."""
    from ...training import adapt as default

    inner = recipe.adapt or default

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        adapted = inner(model, method)
        return change(adapted) or adapted

    return recipe.replace(adapt=adapt)


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Any:
    """``owner.name`` is ``value`` in the body."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield original
    finally:
        setattr(owner, name, original)


def forward_inputs(
    job: Job, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, the model is called with its training inputs (by name) as ``change`` returns them."""
    from ...observers.arguments import named_arguments

    def before(
        model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), change(dict(named_arguments(model, args, kwargs)))

    @contextlib.contextmanager
    def hooked() -> Any:
        hook = job.model.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
        try:
            yield
        finally:
            hook.remove()

    return hooked()
