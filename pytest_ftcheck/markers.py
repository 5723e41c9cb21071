"""The marker ``gpu``: what a test needs, and what becomes of it where that is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .options import Settings
from .sizes import bytes_of

if TYPE_CHECKING:
    from .executor.remote import Remote

# Fixtures that train, or ask for a device, in the process of the test itself.
TRAIN_HERE = {"ft_device", "ft_check", "ft_compare", "ft_benchmark", "ft_distributed", "ft_observe"}


@dataclass(frozen=True)
class GpuNeed:
    """What a test marked ``gpu`` asks for: ``count`` GPUs of ``memory_bytes`` each, shared with nobody if
    ``exclusive``.
    """

    memory_bytes: int = 0
    count: int = 1
    exclusive: bool = False


ALLOWED = "memory='20GB', count=2, exclusive=True"


def gpu_need(item: pytest.Item, marker: pytest.Mark) -> GpuNeed:
    """What ``item`` asks for by its ``marker``. Raises pytest.UsageError for arguments that it does not take."""
    unknown = [repr(value) for value in marker.args]
    unknown += [name for name in marker.kwargs if name not in ("memory", "count", "exclusive")]
    if unknown:
        raise pytest.UsageError(f"{item.nodeid}: gpu marker has {', '.join(unknown)}; allowed: {ALLOWED}")
    count = marker.kwargs.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise pytest.UsageError(f"{item.nodeid}: gpu(count={count!r}); allowed: a whole number of at least 1")
    exclusive = marker.kwargs.get("exclusive", False)
    if not isinstance(exclusive, bool):
        raise pytest.UsageError(f"{item.nodeid}: gpu(exclusive={exclusive!r}); allowed: True, False")
    return GpuNeed(_bytes(item, marker.kwargs.get("memory", "0B")), count, exclusive)


def trains_elsewhere(item: pytest.Item) -> bool:
    """Whether all that a test needs GPUs for are its runs, which another executor carries out on GPUs of its own."""
    names = set(getattr(item, "fixturenames", ()))
    return "ft_run" in names and not names & TRAIN_HERE


def refuse_without_gpu(item: pytest.Item, need: GpuNeed, settings: Settings, remote: Remote | None = None) -> None:
    """Skip the test that is about to be set up where the GPUs it needs are missing (here or, with ``remote``, there);
    fail it where they are promised, or where they are there and this worker was given too few of them.
    """
    if settings.device == "cpu":
        return
    reason = remote.lacks(need.count) if remote else _lacks(item, need)
    if reason is None:
        return
    if settings.require_gpu or settings.device != "auto":
        asked = "--ftcheck-require-gpu" if settings.require_gpu else f"--ftcheck-device={settings.device}"
        pytest.fail(f"ftcheck: {asked}, but {reason}", pytrace=False)
    # As a marker, so that pytest shows the test's own place and not this line.
    item.add_marker(pytest.mark.skip(reason=f"ftcheck: {reason}; run it on the CPU with --ftcheck-device=cpu"))


def _lacks(item: pytest.Item, need: GpuNeed) -> str | None:
    """Why the GPUs of this process do not do; None if they do."""
    from .devices import lacks
    from .leasing.workers import lease_of

    lease = lease_of(item.config)
    if lease and len(lease.names) < need.count <= lease.free:
        pytest.fail(f"ftcheck: {lease.too_small(need.count)}", pytrace=False)
    reason = lacks(need.memory_bytes, need.count, need.exclusive)
    return "; ".join(lease.refused) if reason and lease and not lease.names and lease.refused else reason


def _bytes(item: pytest.Item, text: object) -> int:
    size = bytes_of(text)
    if size is None:
        raise pytest.UsageError(f"{item.nodeid}: gpu(memory={text!r}); allowed: a size such as '20GB' or '512MiB'")
    return size
