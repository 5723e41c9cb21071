"""Carrying a recipe's training out on the fake device. It leaves the process unfit for anything else."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from ..environment import versions
from ..errors import PredictionError, TrainingError
from ..execution import MEMORY_STEPS, build_job, train_job
from ..failures import wrong_number_of_updates
from ..isolation import preserved_settings
from ..observers.batches import input_tokens
from ..observers.events import Events, Watcher
from ..observers.memory import MemoryWatch, summarize
from ..recipe import Recipe
from .allocator import replay
from .attention import route_attention
from .autocast import route_autocast
from .device import FAKE_GPU, FakeDevice, has_private_backend
from .gpu import Gpu
from .journal import Journal
from .modules import ModuleWatch
from .moments import moments
from .placement import let_modules_move, place
from .prediction import Flops, Prediction
from .timeline import Timeline


def dry_run(recipe: Recipe, method: str, gpu: Gpu, journal: Journal, device_type: str | None = None) -> Prediction:
    """Predict one update of ``recipe`` with its method called ``method``, on ``gpu``.

    ``device_type``: ``"cpu"`` predicts for the CPU and its kernels. Raises PredictionError for what cannot be done
    without contents, TrainingError and RecipeError as a real run does.
    """
    began = time.perf_counter()
    device = FakeDevice(device_type or (FAKE_GPU if has_private_backend() else "cpu"))
    kept = _prepare_process(gpu, device)
    modules, tokens = ModuleWatch(), _Tokens()
    timeline = Timeline(device, gpu, modules, journal)
    with preserved_settings(recipe.threads), tempfile.TemporaryDirectory(prefix="ftcheck-") as folder:
        journal.note("building the model")
        place_model = functools.partial(place, device=device)
        job, _ = build_job(recipe, method, 0, MEMORY_STEPS, device.name, Path(folder), place_model)
        gc.collect()
        gc.freeze()
        gc.disable()
        with Events([modules, MemoryWatch(timeline), tokens, _Collector()]).listening() as events, timeline:
            train_job(job, method, events, lambda: timeline.update)
        _check(timeline, method)
    del kept
    return _concluded(recipe, method, gpu, timeline, tokens.last, time.perf_counter() - began)


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


def _prepare_process(gpu: Gpu, device: FakeDevice) -> list[Any]:
    """What a real GPU would bring about by itself. What is returned must be kept."""
    # On a device of its own the backward pass would run in a thread, which sees no dispatch mode.
    torch.autograd.set_multithreading_enabled(False)
    # Both choose the kernels that take many tensors at once by the exact type of these.
    import torch.optim.optimizer as optimizers
    import torch.utils._foreach_utils as foreach

    let_modules_move()
    if device.type == "cpu":
        return []
    for supported in (optimizers._foreach_supported_types, foreach._foreach_supported_types):
        supported.append(FakeTensor)
    os.environ["ACCELERATE_TORCH_DEVICE"] = device.name
    return [route_attention(gpu), *route_autocast(device)]


def _check(timeline: Timeline, method: str) -> None:
    if timeline.update != MEMORY_STEPS:
        raise TrainingError(wrong_number_of_updates(method, timeline.update, MEMORY_STEPS))
    if not timeline.operations:
        raise PredictionError(
            f"{method}: no operation of the training was on {timeline.device.name}\n"
            "  likely cause: train(job) chooses its device itself; take it from job.device"
        )


def _concluded(recipe: Recipe, method: str, gpu: Gpu, timeline: Timeline, tokens: int, took_s: float) -> Prediction:
    memory = summarize(timeline)
    last = timeline.update - 1
    workspaces, allocator = replay(timeline.events, gpu if timeline.device.type == FAKE_GPU else None)
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
        active_bytes=memory.peak_bytes + workspaces,
        allocated_bytes=allocator.peak_allocated_bytes,
        reserved_bytes=allocator.peak_reserved_bytes,
        peak_phase=memory.peak_phase,
        memory=memory,
        moments=moments(timeline),
        flops=Flops(timeline.flops[last, "forward"], timeline.flops[last, "backward"]),
        tokens=tokens,
        step_s=timeline.seconds.get(last, 0.0),
        operations=timeline.operations,
        notes=_notes(timeline),
        versions=dict(versions()),
        took_s=took_s,
    )


def _notes(timeline: Timeline) -> tuple[str, ...]:
    notes = [f"{what} ({where})" for where, what in timeline.values.assumptions.items()]
    if timeline.device.type != FAKE_GPU and not has_private_backend():
        notes.insert(0, "this torch has no device written in Python: predicted with the CPU's kernels")
    return tuple(notes)
