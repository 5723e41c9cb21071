"""Building what is trained: the rows, the model, its adapter, and the job that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .distributed.world import ALONE, World
from .errors import FtcheckError, RecipeError, TrainingError
from .failures import is_out_of_memory, one_line
from .isolation import seed_everything
from .recipe import Job, Recipe
from .theory.parameters import ParameterForm, parameter_form
from .tracebacks import release

if TYPE_CHECKING:
    from torch import nn


def build_job(
    recipe: Recipe,
    method: str,
    seed: int,
    steps: int,
    device: str,
    folder: Path,
    place: Callable[[nn.Module], nn.Module] | None = None,
    world: World = ALONE,
) -> tuple[Job, ParameterForm | None]:
    """A job with its model built, adapted and on the device (by ``place``, where it is not an ordinary one), and the
    closed form of its parameters.

    The generators are seeded before the model is built, before it is adapted, and again before training begins: an
    adapter draws its own initial values, and the two arms must not differ in anything that is drawn after them.
    """
    seed_everything(seed)
    train_data, eval_data = rows_of(recipe, "train_data"), rows_of(recipe, "eval_data")
    model = base_model(recipe, seed)
    seed_everything(seed)
    model, declared = _adapted(recipe, method, model)
    job = Job(
        model=place(model) if place else _placed(model, recipe, method, device, world),
        method=recipe.method(method),
        train_data=train_data,
        eval_data=eval_data,
        steps=steps,
        seed=seed,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        lr=recipe.method(method).lr,
        device=device,
        dtype=recipe.dtype,
        output_dir=folder,
        recipe=recipe,
        rank=world.rank,
        processes=world.processes,
    )
    seed_everything(seed)
    return job, declared


def _placed(model: nn.Module, recipe: Recipe, method: str, device: str, world: World) -> nn.Module:
    """The model on the device. Raises TrainingError where it does not fit: a smaller batch would not help."""
    try:
        return world.placed(model, recipe, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        text = f"{method}: out of memory on {device}: the model alone does not fit ({one_line(error)})"
        release(error)
    raise TrainingError(text)


def base_model(recipe: Recipe, seed: int) -> nn.Module:
    """The recipe's model before adaptation, in its dtype, built from ``seed``."""
    import torch

    seed_everything(seed)
    try:
        model = recipe.model()
    except FtcheckError:
        raise
    except Exception as error:
        raise TrainingError(f"Recipe.model() raised {one_line(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise RecipeError(f"Recipe.model() returned {type(model).__name__}; allowed: a torch.nn.Module")
    return model.to(getattr(torch, recipe.dtype)) if recipe.dtype != "float32" else model


def adapted_model(recipe: Recipe, method: str, seed: int) -> nn.Module:
    """The recipe's model made ready to train, as a job of that seed would get it."""
    model = base_model(recipe, seed)
    seed_everything(seed)
    return _adapted(recipe, method, model)[0]


def rows_of(recipe: Recipe, name: str) -> Any:
    """The recipe's data: the rows themselves, or what the function that was given returns."""
    rows = getattr(recipe, name)
    rows = rows() if callable(rows) and not hasattr(rows, "__getitem__") else rows
    if rows is not None and hasattr(rows, "__len__") and len(rows) == 0:
        raise RecipeError(f"Recipe.{name} has 0 rows; allowed: at least one")
    if rows is None and name == "train_data":
        raise RecipeError("Recipe.train_data is None; allowed: rows, or a function that returns rows")
    return rows


def _adapted(recipe: Recipe, method: str, model: nn.Module) -> tuple[nn.Module, ParameterForm | None]:
    """The model made ready to train, and the closed form that its method declares (None where none is known)."""
    from .training import adapt

    declared, no_form = None, None
    try:
        # A script builds its model when it runs; nothing can be declared of it before.
        built_later = getattr(model, "built_by_training", False)
        declared = None if built_later else parameter_form(model, recipe.method(method))
    except RecipeError as error:
        no_form = error
    try:
        adapted = (recipe.adapt or adapt)(model, recipe.method(method))
    except FtcheckError:
        raise
    except Exception as error:
        if no_form is not None:
            # PEFT says that a target was not found; our own error says which names there are.
            raise no_form from None
        raise TrainingError(f"{method}: adapt() raised {one_line(error)}") from error
    if not hasattr(adapted, "named_parameters"):
        raise RecipeError(f"Recipe.adapt() returned {type(adapted).__name__}; allowed: a torch.nn.Module")
    return adapted, declared
