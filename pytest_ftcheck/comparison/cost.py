"""What a step costs whatever the machine is doing: parameters, operations and bytes, to be compared exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..execution import memory_pass
from ..isolation import preserved_settings
from ..observers.events import Watcher
from ..recipe import Recipe
from ..report.units import operations, size
from ..run import Flops, Memory

if TYPE_CHECKING:
    import torch
    from torch import nn

# The allocator of a GPU rounds, and keeps what libraries leave; live bytes are exact.
ALLOCATOR_TOLERANCE = 0.01


@dataclass(frozen=True)
class Cost(Record):
    """Of one method: its parameters (tied ones once), and the memory and operations of one update."""

    total: int
    trainable: int
    memory: Memory
    flops: Flops


class _ParameterCount(Watcher):
    """Counts the parameters at the last update; allocates nothing."""

    def __init__(self) -> None:
        self.total = self.trainable = 0

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        self.total = sum(p.numel() for p in self._model.parameters())
        self.trainable = sum(p.numel() for p in self._model.parameters() if p.requires_grad)


def measure_cost(recipe: Recipe, method: str, seed: int, device: str) -> Cost:
    """The cost of ``method``, from a short training. Raises TrainingError where it fails."""
    count = _ParameterCount()
    with preserved_settings(recipe.threads):
        memory, flops = memory_pass(recipe, method, seed, device, [count])
    return Cost(count.total, count.trainable, memory, flops)


@dataclass(frozen=True)
class Change(Record):
    """One quantity of a step in two trainings. ``worse``: the candidate's costs more, or is not what was trained."""

    what: str
    reference: int
    candidate: int
    worse: bool
    text: str


def changes(reference: Cost, candidate: Cost) -> tuple[Change, ...]:
    """What differs. Another number of parameters is worse in either direction: it is another training."""
    return tuple(change for change in _changes(reference, candidate) if change.reference != change.candidate)


def _changes(reference: Cost, candidate: Cost) -> Iterator[Change]:
    for what in ("total", "trainable"):
        a, b = getattr(reference, what), getattr(candidate, what)
        name = "parameters" if what == "total" else "trainable parameters"
        yield Change(name, a, b, a != b, f"{name} {a:,} -> {b:,}")
    a, b = reference.flops.total, candidate.flops.total
    yield Change("FLOPs", a, b, b > a, f"FLOPs of a step {operations(a)} -> {operations(b)} ({b - a:+,})")
    for what, name in (("static_bytes", "static memory"), ("peak_bytes", "peak memory")):
        a, b = getattr(reference.memory, what), getattr(candidate.memory, what)
        rounds = what == "peak_bytes" and "allocator" in (reference.memory.source, candidate.memory.source)
        worse = b > a * (1 + ALLOCATOR_TOLERANCE) if rounds else b > a
        yield Change(name, a, b, worse, f"{name} {size(a)} -> {size(b)} ({b - a:+,} B)")
