"""The marker ``gpu``: what a test needs, and what becomes of it where that is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .options import Settings
from .sizes import bytes_of

if TYPE_CHECKING:
    from .executor.elsewhere import Elsewhere

# Fixtures that train in the test's own process, whatever carries out runs.
TRAIN_HERE = {"ft_device", "_ft_evidence", "ft_compare", "ft_benchmark", "ft_observe"}


@dataclass(frozen=True)
class GpuNeed:
    """What a test marked ``gpu`` asks for: ``count`` GPUs of ``memory_bytes`` each."""

    memory_bytes: int = 0
    count: int = 1


def gpu_need(item: pytest.Item, marker: pytest.Mark) -> GpuNeed:
    """What ``item`` asks for by its ``marker``. Raises pytest.UsageError for arguments that it does not take."""
    unknown = [repr(value) for value in marker.args]
    unknown += [name for name in marker.kwargs if name not in ("memory", "count")]
    if unknown:
        raise pytest.UsageError(f"{item.nodeid}: gpu marker has {', '.join(unknown)}; allowed: memory='20GB', count=2")
    count = marker.kwargs.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise pytest.UsageError(f"{item.nodeid}: gpu(count={count!r}); allowed: a whole number of at least 1")
    return GpuNeed(_bytes(item, marker.kwargs.get("memory", "0B")), count)


def refuse_without_gpu(
    item: pytest.Item, need: GpuNeed, settings: Settings, elsewhere: Elsewhere | None = None
) -> None:
    """Skip the test that is about to be set up where the GPUs it needs are missing; fail it where they are promised.
    A test that needs them for nothing but its runs needs them where those are carried out.
    """
    if settings.device == "cpu":
        return
    if elsewhere is not None and _only_asks_for_runs(item):
        reason = elsewhere.lacks(need.count)
    else:
        from .devices import lacks

        reason = lacks(need.memory_bytes, need.count)
    if reason is None:
        return
    if settings.require_gpu or settings.device != "auto":
        asked = "--ftcheck-require-gpu" if settings.require_gpu else f"--ftcheck-device={settings.device}"
        pytest.fail(f"ftcheck: {asked}, but {reason}", pytrace=False)
    # As a marker, so that pytest shows the test's own place and not this line.
    item.add_marker(pytest.mark.skip(reason=f"ftcheck: {reason}; run it on the CPU with --ftcheck-device=cpu"))


def _only_asks_for_runs(item: pytest.Item) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    return "ft_run" in names and not names & TRAIN_HERE


def _bytes(item: pytest.Item, text: object) -> int:
    size = bytes_of(text)
    if size is None:
        raise pytest.UsageError(f"{item.nodeid}: gpu(memory={text!r}); allowed: a size such as '20GB' or '512MiB'")
    return size
