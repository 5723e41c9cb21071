"""What a training really allocates, on a CPU or on a GPU: the training that was predicted, carried out."""

from __future__ import annotations

import contextlib
import functools
import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function

from pytest_ftcheck import Recipe
from pytest_ftcheck.building import build_job
from pytest_ftcheck.execution import MEMORY_STEPS, train_job
from pytest_ftcheck.isolation import preserved_settings
from pytest_ftcheck.observers.events import Events, Watcher

FIRST_UPDATE_ENDED = "ftcheck: the first update has ended"


class _AfterFirstUpdate(Watcher):
    """Calls ``then`` after the first update: what is measured is the second one, when the optimizer's state exists."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.updates, self.then = 0, then

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self.updates += 1
        if self.updates == 1:
            self.then()


def real_peak_bytes(recipe: Recipe, method: str) -> int:
    """The peak of an update of ``recipe`` on the CPU, in bytes as they were requested, by the profiler's events: every
    allocation and release, those within kernels among them.
    """

    def mark() -> None:
        with record_function(FIRST_UPDATE_ENDED):
            pass

    # What earlier trainings left must not be freed in this one.
    gc.collect()
    seen = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    model_bytes = _train(recipe, method, "cpu", mark, seen)
    return model_bytes + _highest_after_mark(seen)


def gpu_peaks(recipe: Recipe, method: str, device: str) -> dict[str, int]:
    """The allocator's peaks in an update of ``recipe`` on the GPU ``device``, in bytes: of active, allocated and
    reserved memory.
    """
    gc.collect()
    torch.cuda.empty_cache()
    _first_product(device)
    # Otherwise cuBLAS's workspaces and free blocks of the training before would be part of this one.
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    reset = functools.partial(torch.cuda.reset_peak_memory_stats, device)
    _train(recipe, method, device, reset, contextlib.nullcontext())
    torch.cuda.synchronize(device)
    stats = torch.cuda.memory_stats(device)
    return {name: stats[f"{name}.all.peak"] for name in ("active_bytes", "allocated_bytes", "reserved_bytes")}


@functools.cache
def _first_product(device: str) -> None:
    """Let both threads of a training have their workspaces of cuBLAS, where the process has none yet. Newer releases of
    torch keep them for each thread, and this one cannot clear the backward pass's: it must not lie in a segment that a
    training needs.
    """
    weight = torch.ones(16, 16, device=device, requires_grad=True)
    (weight @ weight).sum().backward()


def _train(
    recipe: Recipe,
    method: str,
    device: str,
    after_first_update: Callable[[], None],
    around: contextlib.AbstractContextManager[Any],
) -> int:
    """Carry ``recipe`` out, the loop within ``around``; how many bytes the model had before."""
    watcher = _AfterFirstUpdate(after_first_update)
    with preserved_settings(recipe.threads or 1), tempfile.TemporaryDirectory() as folder:
        place = functools.partial(with_contents, device=device)
        job, _ = build_job(recipe, method, 0, MEMORY_STEPS, device, Path(folder), place)
        storages = {id(s): s for s in (t.untyped_storage() for t in [*job.model.parameters(), *job.model.buffers()])}
        model_bytes = sum(storage.nbytes() for storage in storages.values())
        del storages
        with Events([watcher]).listening() as events, around:
            train_job(job, method, events, lambda: watcher.updates)
        return model_bytes


def with_contents(model: nn.Module, device: str) -> nn.Module:
    """A model from the ``meta`` device, on ``device``, with zeros for weights: allocations do not depend on them."""
    made: dict[int, Any] = {}
    for module in model.modules():
        owned: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in owned:
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    # Once for each tensor: tied weights stay tied.
                    made.setdefault(id(tensor), _zeros(tensor, device))
                    tensors[name] = made[id(tensor)]
    return model.to(device)


def _zeros(tensor: torch.Tensor, device: str) -> torch.Tensor:
    zeros = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(zeros, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else zeros


def _highest_after_mark(seen: profile) -> int:
    """The highest sum of allocations less releases after the mark."""
    events = sorted(_events(seen), key=lambda event: event.start_time_ns)
    mark = next(event.start_time_ns for event in events if event.name == FIRST_UPDATE_ENDED)
    total = peak = 0
    for event in events:
        if event.typed[0] == _EventType.Allocation:
            total += event.typed[1].alloc_size
            if event.start_time_ns > mark:
                peak = max(peak, total)
    return peak


def _events(seen: profile) -> Iterator[Any]:
    assert seen.profiler is not None
    waiting = list(seen.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        yield event
        waiting.extend(event.children)
