"""The peak of memory in each update of a short training whose rows are all alike, so that no batch needs more than
another: what one update holds and an earlier one did not, the training has kept.
"""

from __future__ import annotations

import gc
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..building import build_job, rows_of
from ..deadline import deadline
from ..execution import train_job
from ..isolation import preserved_settings
from ..observers.batches import input_tokens
from ..observers.events import Events, Watcher
from ..observers.memory import LiveBytes, MemoryWatch, summarize
from ..run import Memory
from ..scratch import prefix
from .few import alike
from .training import AUDIT_STEPS

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .evidence import Evidence


@dataclass(frozen=True)
class Peaks:
    """``peak_bytes[u]`` and ``tokens[u]`` are of update u, from 0: the peak of live bytes, or on a GPU the allocator's,
    and how many tokens the model was given. ``memory`` is of live bytes, over all updates after the first.
    """

    peak_bytes: tuple[int, ...]
    tokens: tuple[int, ...]
    memory: Memory

    def like(self, update: int) -> dict[int, int]:
        """The peaks of ``update`` and the later ones that were given as many tokens, by their number."""
        later = range(update, len(self.tokens))
        return {u: self.peak_bytes[u] for u in later if self.tokens[u] == self.tokens[update]}


class _Meter(Watcher):
    """Counts each update's tokens, reads the allocator's peak where there is one, and frees reference cycles at the
    same moments as a prediction does.
    """

    def __init__(self, device: str) -> None:
        self.gpu = device if device.startswith("cuda") else None
        self.tokens: Counter[int] = Counter()
        self.allocated: list[int] = []
        self.updates = 0

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        gc.collect()
        self.tokens[self.updates] += input_tokens(args, kwargs)

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        gc.collect()

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self.updates += 1
        if self.gpu is not None:
            self.allocated.append(torch.cuda.max_memory_allocated(self.gpu))
            torch.cuda.reset_peak_memory_stats(self.gpu)


def alike_recipe(recipe: Recipe) -> Recipe:
    """``recipe`` with its first row many times as its data: as many as make three updates, none of them short."""
    return recipe.replace(train_data=alike(rows_of(recipe, "train_data"), 3 * recipe.batch_size * recipe.accumulation))


def peaks(evidence: Evidence) -> Peaks:
    """The peaks of a short training of ``alike_recipe``. Raises TrainingError where it fails."""
    return evidence.once("peaks", lambda: _carry_out(evidence))


def _carry_out(evidence: Evidence) -> Peaks:
    recipe, method, device = alike_recipe(evidence.recipe), evidence.method_name, evidence.device
    meter, log = _Meter(device), LiveBytes(torch.device(device).type)
    with (
        tempfile.TemporaryDirectory(prefix=prefix()) as folder,
        preserved_settings(recipe.threads),
        deadline(evidence.time_limit_s, f"{method}: train(job) of {AUDIT_STEPS} updates"),
        _older_objects_left_alone(),
    ):
        before = _allocated(device)
        # From the seed that predictions take.
        job, _ = build_job(recipe, method, 0, AUDIT_STEPS, device, Path(folder))
        with Events([MemoryWatch(log), meter]).listening() as events, log:
            train_job(job, method, events, lambda: log.update)
    measured = [peak - before for peak in meter.allocated] or _live_peaks(log)
    return Peaks(tuple(measured), tuple(meter.tokens[update] for update in range(meter.updates)), summarize(log))


def _allocated(device: str) -> int:
    """Bytes that the allocator has given out, cuBLAS's workspaces left out: the training is to ask for them anew."""
    if not device.startswith("cuda"):
        return 0
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _live_peaks(log: LiveBytes) -> list[int]:
    """The peak of live bytes in each update."""
    highest, total = [0] * log.update, 0
    for event in log.events:
        total += event.bytes
        # What lies after the last update is no part of a training step.
        if event.update < log.update:
            highest[event.update] = max(highest[event.update], total)
    return highest


@contextmanager
def _older_objects_left_alone() -> Iterator[None]:
    """Let the garbage collector look at new objects only, while it is asked to at every step: there are millions."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
