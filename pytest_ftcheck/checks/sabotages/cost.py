"""Breaking what an update costs, and what is declared of it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...scratch import prefix
from ..check import Sabotage
from .wrapping import around_training

if TYPE_CHECKING:
    from torch import nn

    from ...recipe import Job, Recipe

# Updates that a leak lets pass: the one that a prediction is of is among them.
SOUND_UPDATES = 2


def _keeping(modules: Callable[[nn.Module], list[nn.Module]], recipe: Recipe) -> Recipe:
    """From the third update on, what ``modules(model)`` return is kept in a list."""

    @contextlib.contextmanager
    def hooking(job: Job) -> Iterator[None]:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from ...observers.loss import logits_of

        kept: list[Any] = []
        steps: list[None] = []

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output if hasattr(output, "detach") else logits_of(output)
            if tensor is not None and len(steps) >= SOUND_UPDATES:
                kept.append(tensor.detach().clone())

        hooks = [module.register_forward_hook(keep) for module in modules(job.model)]
        hooks.append(register_optimizer_step_post_hook(lambda *_: steps.append(None)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    return around_training(recipe, hooking)


def _leaves(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if not any(True for _ in module.children())]


def _undeclared(recipe: Recipe) -> Recipe:
    """The file is not there."""
    return recipe.replace(cost=Path(tempfile.gettempdir()) / "ftcheck-no-such-folder" / "costs.json")


def _grown(recipe: Recipe) -> Recipe:
    """What is declared is the cost of the sound recipe; the broken one holds its batches' outputs while it updates."""
    from ...predict import predict_recipe
    from ...predict.cost import Cost
    from ...predict.declared import Declared, DeclaredCosts

    folder = tempfile.TemporaryDirectory(prefix=prefix())
    costs = DeclaredCosts(Path(folder.name) / "costs.json")
    for method in recipe.declared_methods:
        cost = Cost.of(predict_recipe(recipe, method))
        costs.write(recipe.name, method, Declared("it is the sound recipe's", cost))

    @contextlib.contextmanager
    def holding(job: Job) -> Iterator[None]:
        # The folder lives as long as the recipe does.
        held: list[Any] = [folder]
        hook = job.model.register_forward_hook(lambda model, args, output: held.append(output))
        try:
            yield
        finally:
            hook.remove()

    return around_training(recipe.replace(cost=costs.path), holding)


LOGITS_KEPT = Sabotage(
    "logits-kept-later",
    "from the third update on the logits of every batch are kept",
    lambda recipe: _keeping(lambda model: [model], recipe),
)
ACTIVATIONS_KEPT = Sabotage(
    "activations-kept-later",
    "from the third update on every layer's output is kept",
    lambda recipe: _keeping(_leaves, recipe),
)
COST_UNDECLARED = Sabotage("cost-undeclared", "the file with the declared cost is missing", _undeclared)
COST_GROWN = Sabotage("cost-grown", "more is held in an update than when its cost was declared", _grown)
