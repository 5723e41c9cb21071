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
from typing import Any

from .building import build_job, rows_of
from .distributed.world import ALONE, World, as_torchrun_starts_one
from .environment import current_environment
from .errors import FtcheckError, OutOfMemoryError, TrainingError
from .failures import is_out_of_memory, out_of_memory, raised_in_train, wrong_number_of_updates
from .isolation import preserved_settings
from .observers.beginning import NOTHING
from .observers.events import Events, Watcher
from .observers.observation import Observation
from .progress.audience import measuring, training
from .recipe import Job, Recipe
from .resuming.journal import Journal
from .resuming.resumable import output_folder, resumable
from .resuming.unfinished import Unfinished
from .run import Flops, Memory, Parameters, Run
from .scratch import prefix
from .theory.parameters import ParameterForm
from .tracebacks import chain, release

# Memory is taken from the update after the first, by when the optimizer's state exists.
MEMORY_STEPS = 2


def execute(recipe: Recipe, method: str, seed: int, steps: int, device: str, unfinished: Path | None = None) -> Run:
    """Train ``recipe`` with its method called ``method``. Raises TrainingError where the training itself fails, and
    RecipeError where it cannot begin.

    ``unfinished``: a folder for checkpoints, where ``Recipe.save_steps`` asks for them; what is in it is gone on from.
    """
    with preserved_settings(recipe.threads):
        if unfinished is None:
            record = observed(recipe, method, seed, steps, device)
        else:
            what = f"{recipe.name}, {method}, seed {seed}"
            record = resumable(
                Unfinished(unfinished), what, lambda kept: observed(recipe, method, seed, steps, device, journal=kept)
            )
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
    journal: Journal | None = None,
) -> Callable[..., Run]:
    """Train under observation: the Run of it, once it is given its memory and FLOPs."""
    seen, declared = _observed_pass(recipe, method, seed, steps, device, world, watchers, journal)
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
        resumed=seen.resumed,
    )


def import_what_optimizers_import() -> None:
    """An optimizer's first step imports torch's compiler, for seconds; a time limit that ends in the middle of that
    leaves modules in pieces for the rest of the process.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("torch._dynamo")


def _observed_pass(
    recipe: Recipe,
    method: str,
    seed: int,
    steps: int,
    device: str,
    world: World,
    watchers: Sequence[Watcher],
    journal: Journal | None,
) -> tuple[Observation, ParameterForm | None]:
    beginning = journal.beginning if journal else NOTHING
    told = training(f"{recipe.name}, {method}, seed {seed}", steps, beginning.updates)
    with output_folder(journal) as folder, told as progress:
        job, declared = build_job(recipe, method, seed, steps, device, folder, world=world)
        evaluated = recipe.evaluation_steps(steps) if job.eval_data is not None else ()
        first = [journal] if journal else []
        source = rows_of(recipe, "source_data")
        on_source = _evaluator(recipe, job, source) if source is not None else None
        evaluate, besides = _evaluator(recipe, job, job.eval_data), [*progress, *watchers]
        seen = Observation(steps, evaluate, evaluated, besides, first, beginning, on_source)
        if journal:
            journal.begin(job, seen)
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
        if journal:
            journal.end()
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


def _evaluator(recipe: Recipe, job: Job, rows: Any) -> Callable[[], float]:
    """The recipe's evaluation, on ``rows``."""
    from .training import evaluate

    def loss() -> float:
        own, job.eval_data = job.eval_data, rows
        try:
            return (recipe.evaluate or evaluate)(job)
        finally:
            job.eval_data = own

    return loss


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
