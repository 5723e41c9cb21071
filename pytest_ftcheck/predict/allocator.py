"""A model of CUDA's caching allocator (c10/cuda/CUDACachingAllocator.cpp, one stream, default settings)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..observers.memory import Event
from .gpu import Gpu


@dataclass
class Allocator:
    """Replays allocations; all sizes in bytes."""

    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0


def replay(events: Iterable[Event], gpu: Gpu | None) -> tuple[int, Allocator]:
    """What cuBLAS keeps of ``gpu``'s memory, and the allocator after ``events``."""
    total = peak = 0
    for event in events:
        total += event.bytes
        peak = max(peak, total)
    return 0, Allocator(peak, peak)
