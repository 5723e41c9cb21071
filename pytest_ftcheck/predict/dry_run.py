"""Carrying a recipe's training out on the fake device. It leaves the process unfit for anything else."""

from __future__ import annotations

import contextlib
import functools
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..building import build_job
from ..environment import versions
from ..errors import PredictionError, TrainingError
from ..execution import MEMORY_STEPS, train_job
from ..failures import wrong_number_of_updates
from ..isolation import preserved_settings
from ..observers.batches import input_tokens
from ..observers.events import Events, Watcher
from ..observers.flops import flops_of_update
from ..observers.memory import MemoryWatch, summarize
from ..recipe import Job, Recipe
from ..scratch import prefix
from ..script import HorizonReached
from .allocator import Replay, replay
from .device import FAKE_GPU, FakeDevice, has_private_backend
from .gpu import Gpu
from .journal import Journal
from .modules import ModuleWatch
from .moments import moments
from .owners import Owners
from .placement import place
from .prediction import Prediction
from .surroundings import prepare_process
from .timeline import Timeline
from .unsupported import foreign_kernel, kernel_package


def dry_run(recipe: Recipe, method: str, gpu: Gpu, journal: Journal, device_type: str | None = None) -> Prediction:
    """Predict one update of ``recipe`` with its method called ``method``, on ``gpu``.

    ``device_type``: ``"cpu"`` predicts for the CPU and its kernels. Raises PredictionError for what cannot be done
    without contents, TrainingError and RecipeError as a real run does.
    """
    began = time.perf_counter()
    device = FakeDevice(device_type or (FAKE_GPU if has_private_backend() else "cpu"))
    modules, tokens = ModuleWatch(), _Tokens()
    timeline = Timeline(device, gpu, modules, journal)
    kept = prepare_process(gpu, device, timeline)
    owners = Owners(timeline)
    with preserved_settings(recipe.threads), tempfile.TemporaryDirectory(prefix=prefix()) as folder:
        journal.note("building the model")
        place_model = functools.partial(place, device=device, values=timeline.values)
        with device.carrying_out():
            job, _ = build_job(recipe, method, 0, MEMORY_STEPS, device.shown_as, Path(folder), place_model)
        gc.collect()
        gc.freeze()
        gc.disable()
        watchers = [modules, MemoryWatch(timeline), owners, tokens, _Collector(), _Horizon(timeline)]
        with Events(watchers).listening() as events, timeline, contextlib.suppress(HorizonReached):
            _train(job, method, events, timeline)
        if timeline.update != MEMORY_STEPS:
            raise TrainingError(wrong_number_of_updates(method, timeline.update, MEMORY_STEPS))
    del kept
    return _concluded(recipe, method, gpu, timeline, owners, tokens.last, time.perf_counter() - began)


def _train(job: Job, method: str, events: Events, timeline: Timeline) -> None:
    try:
        train_job(job, method, events, lambda: timeline.update)
    except TrainingError as error:
        cause = error.__cause__
        if cause is not None and (FAKE_GPU in str(cause) or kernel_package(cause) is not None):
            raise foreign_kernel(cause) from error
        raise


class _Horizon(Watcher):
    """Ends the training when enough has been seen: what comes after (a longer loop, an evaluation, saving) is no part
    of a step. The last of the watchers, since nobody hears of an update's end after it.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._model: nn.Module | None = None

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        wanted = self.timeline.device.shown_as
        there = {str(parameter.device) for parameter in self._model.parameters()} if self._model is not None else set()
        if wanted not in there:
            raise PredictionError(
                f"the model is on {', '.join(sorted(there))} when it trains, and the prediction is for {wanted}\n"
                "  likely cause: train(job) chooses its device itself (use_cpu=True, cpu=True); take it from "
                "job.device, or predict with device='cpu'"
            )

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        if self.timeline.update == MEMORY_STEPS:
            raise HorizonReached


class _Tokens(Watcher):
    """How many tokens the last micro-batch had."""

    last = 0

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.last = input_tokens(args, kwargs)


class _Collector(Watcher):
    """Frees reference cycles at fixed moments: left to its own counts, Python's collector would make the peak depend
    on what the process had done before.
    """

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        gc.collect()

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        gc.collect()


def _concluded(
    recipe: Recipe, method: str, gpu: Gpu, timeline: Timeline, owners: Owners, tokens: int, took_s: float
) -> Prediction:
    memory = summarize(timeline)
    last = timeline.update - 1
    allocator = Replay(memory.peak_bytes, memory.peak_bytes)
    if timeline.device.type == FAKE_GPU:
        allocator = replay(timeline.events, timeline.update, timeline.handles_at, gpu)
    return Prediction(
        recipe=recipe.name,
        method=method,
        declaration=recipe.method(method).label,
        gpu=gpu,
        backend=timeline.device.type,
        dtype=recipe.dtype,
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        peak_bytes=memory.peak_bytes,
        active_bytes=allocator.allocated_bytes,
        allocated_bytes=allocator.allocated_bytes,
        reserved_bytes=allocator.reserved_bytes,
        peak_phase=memory.peak_phase,
        memory=memory,
        moments=moments(timeline, owners.module),
        flops=flops_of_update(timeline.flops, last),
        tokens=tokens,
        step_s=timeline.seconds.get(last, 0.0),
        operations=timeline.operations,
        notes=_notes(timeline),
        versions=dict(versions()),
        took_s=took_s,
    )


def _notes(timeline: Timeline) -> tuple[str, ...]:
    places: dict[str, list[str]] = {}
    for here, what in timeline.values.assumptions.items():
        places.setdefault(what, []).append(here)
    notes = [f"{what} ({', '.join(where)})" for what, where in places.items()]
    if timeline.device.type != FAKE_GPU and not has_private_backend():
        notes.insert(0, "this torch has no device written in Python: predicted with the CPU's kernels")
    gpu = timeline.gpu
    if gpu.emulates_bfloat16 and any(origin.dtype == "bfloat16" for origin in timeline.origin.values()):
        notes.append(f"{gpu.name} has no bfloat16 of its own: torch emulates it, slowly, and without fused attention")
    return tuple(notes)
