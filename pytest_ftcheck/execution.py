"""Carrying out one training under observation: for losses, parameters and time, then, briefly, for memory and FLOPs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib
import inspect
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .distributed.world import ALONE, World, as_torchrun_starts_one
from .environment import current_environment
from .errors import FtcheckError, OutOfMemoryError, RecipeError, TrainingError
from .failures import is_out_of_memory, one_line, out_of_memory, raised_in_train, wrong_number_of_updates
from .isolation import preserved_settings, seed_everything
from .observers.events import Events, Watcher
from .observers.observation import Observation
from .progress.audience import measuring, training
from .recipe import Job, Recipe
from .run import Flops, Memory, Parameters, Run
from .scratch import prefix
from .theory.parameters import ParameterForm, parameter_form
from .tracebacks import chain, release

if TYPE_CHECKING:
    from torch import nn

# Memory is taken from the update after the first, by when the optimizer's state exists.
MEMORY_STEPS = 2


def execute(recipe: Recipe, method: str, seed: int, steps: int, device: str) -> Run:
    """Train ``recipe`` with its method called ``method``. Raises TrainingError where the training itself fails, and
    RecipeError where it cannot begin.
    """
    with preserved_settings(recipe.threads):
        record = observed(recipe, method, seed, steps, device)
        # The first model is gone before the second one's memory is measured.
        with measuring(f"{recipe.name}, {method}, seed {seed}"):
            memory, flops = memory_pass(recipe, method, seed, device)
        return record(memory=memory, flops=flops)


def observed(
    recipe: Recipe,
    method: str,
    seed: int,
    steps: int,
    device: str,
    world: World = ALONE,
    watchers: Sequence[Watcher] = (),
) -> Callable[..., Run]:
    """Train under observation: the Run of it, once it is given its memory and FLOPs."""
    seen, declared = _observed_pass(recipe, method, seed, steps, device, world, watchers)
    return functools.partial(
        Run,
        recipe=recipe.name,
        method=method,
        title=recipe.method(method).title,
        declaration=recipe.method(method).label,
        seed=seed,
        steps=steps,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        lr=recipe.method(method).lr,
        dtype=recipe.dtype,
        parameters=Parameters(seen.parameters.tensors, declared),
        loss=seen.loss,
        time=seen.time,
        optimizers=seen.optimizers,
        environment=current_environment(device),
    )


def import_what_optimizers_import() -> None:
    """An optimizer's first step imports torch's compiler, for seconds; a time limit that ends in the middle of that
    leaves modules in pieces for the rest of the process.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("torch._dynamo")


def _observed_pass(
    recipe: Recipe, method: str, seed: int, steps: int, device: str, world: World, watchers: Sequence[Watcher]
) -> tuple[Observation, ParameterForm | None]:
    told = training(f"{recipe.name}, {method}, seed {seed}", steps)
    with tempfile.TemporaryDirectory(prefix=prefix()) as folder, told as progress:
        job, declared = build_job(recipe, method, seed, steps, device, Path(folder), world=world)
        evaluated = recipe.evaluation_steps(steps) if job.eval_data is not None else ()
        seen = Observation(steps, _evaluator(recipe, job), evaluated, [*progress, *watchers])
        for watch in progress:
            watch.latest = seen.latest_loss
        with seen.events.listening() as events:
            train_job(job, method, events, lambda: seen.updates)
        if seen.updates != steps:
            raise TrainingError(wrong_number_of_updates(method, seen.updates, steps))
        if len(seen.loss.train) != steps:
            raise TrainingError(
                f"{method}: only {len(seen.loss.train)} of {steps} updates followed a backward() of a scalar loss"
            )
        return seen, declared


def memory_pass(
    recipe: Recipe, method: str, seed: int, device: str, watchers: Sequence[Watcher] = (), world: World = ALONE
) -> tuple[Memory, Flops]:
    """A short training of the same kind, with every live byte and every operation counted and, on a GPU, the
    allocator's peak. ``watchers`` watch it too; what they allocate would count.
    """
    import torch

    from .observers.flops import flops_of_update
    from .observers.memory import LiveBytes, MemoryWatch, summarize

    on_gpu = device.startswith("cuda")
    if on_gpu:
        # Trainers and their models hold each other, and what is left of the first pass would count in the allocator.
        gc.collect()
    with tempfile.TemporaryDirectory(prefix=prefix()) as folder:
        before = torch.cuda.memory_allocated(device) if on_gpu else 0
        job, _ = build_job(recipe, method, seed, MEMORY_STEPS, device, Path(folder), world=world)
        log = LiveBytes(torch.device(device).type)
        events = Events([MemoryWatch(log), *watchers])
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        with events.listening(), log:
            train_job(job, method, events, lambda: log.update)
        memory = summarize(log)
        if on_gpu:
            peak = torch.cuda.max_memory_allocated(device) - before
            memory = dataclasses.replace(memory, peak_bytes=peak, source="allocator")
        return memory, flops_of_update(log.flops, max(log.update - 1, 0))


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


def _evaluator(recipe: Recipe, job: Job) -> Callable[[], float]:
    from .training import evaluate

    return lambda: (recipe.evaluate or evaluate)(job)


def train_job(job: Job, method: str, events: Events, updates: Callable[[], int]) -> None:
    """Let the recipe's loop train the job, and turn what goes wrong into an error that says how far it came."""
    from .training import train

    job.on_model = events.attach
    events.attach(job.model)
    try:
        with as_torchrun_starts_one(job):
            returned = (job.recipe.train or train)(job)
        if inspect.isgenerator(returned) or inspect.iscoroutine(returned):
            raise TrainingError(
                f"{method}: train(job) ran nothing: it returned a {type(returned).__name__}\n"
                "  likely cause: it holds a yield, or is an async function, so that calling it does not run it"
            )
    except FtcheckError:
        raise
    except SystemExit as end:
        raise TrainingError(f"{method}: train(job) called sys.exit({end.code!r}) after {updates()} updates") from None
    except Exception as error:
        exhausted = next((one for one in chain(error) if is_out_of_memory(one)), None)
        if exhausted is not None:
            text = out_of_memory(job, method, updates(), exhausted)
            # The frames hold the batch, the activations and the optimizer: memory that later tests need.
            release(error)
            raise OutOfMemoryError(text) from None
        raise TrainingError(raised_in_train(job, method, updates(), error)) from error
