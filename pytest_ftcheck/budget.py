"""The memory that a test has asked for by its marker is what it gets, so that it does on every GPU what it would do on
the smallest that will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from .devices import resolve_device, usable_gpus
from .markers import GpuNeed
from .options import Settings


@dataclass(frozen=True)
class Budget:
    """``memory_bytes`` on each of the GPUs ``devices``."""

    memory_bytes: int
    devices: tuple[int, ...]


BUDGET = pytest.StashKey[Budget]()


def impose(item: pytest.Item, need: GpuNeed, settings: Settings) -> None:
    """Let torch's allocator give the test no more than it needs by its own word. On the CPU nothing is held to it: what
    a run takes there is not what it takes on a GPU.
    """
    sizes = usable_gpus().memory_bytes if settings.device != "cpu" else ()
    if not need.memory_bytes or not sizes:
        return
    import torch

    chosen = int(resolve_device(settings.device).partition(":")[2] or 0)
    devices = (chosen,) if need.count == 1 else tuple(range(len(sizes)))
    for device in devices:
        torch.cuda.set_per_process_memory_fraction(min(1.0, need.memory_bytes / sizes[device]), device)
    item.stash[BUDGET] = Budget(need.memory_bytes, devices)


def lift(item: pytest.Item) -> None:
    """Give the whole memory back, to the tests that follow."""
    budget = item.stash.get(BUDGET, None)
    if budget is None:
        return
    import torch

    for device in budget.devices:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
