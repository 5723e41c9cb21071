"""What a failed test leaves behind for those that follow: memory that its traceback holds, and a dead CUDA context."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
import torch

from .budget import BUDGET
from .errors import FtcheckError
from .failures import is_out_of_memory, one_line
from .report.units import size
from .session import SESSION
from .tracebacks import chain, clear_locals

# Errors after which every call of the process fails, as the runtime words them (cudaGetErrorString, and HIP's).
DEADLY = re.compile(
    r"(CUDA|HIP) error: (an illegal memory access|device-side assert|unspecified launch failure|misaligned address"
    r"|an illegal instruction|operation not supported on global/shared|invalid program counter|hardware stack error"
    r"|uncorrectable ECC error|the launch timed out)"
)
ADVICE = "a smaller batch with more accumulation, gradient checkpointing, shorter rows, or a larger gpu(memory=...)"


def settle(item: pytest.Item, error: BaseException, report: pytest.TestReport) -> None:
    """Free what the error of a test keeps, now that its report is made, and find out whether the device is dead. What
    skips a test in the middle is such an error too.

    Not before a debugger looks at the frames.
    """
    dead = "" if isinstance(error, pytest.skip.Exception) else _death(error)
    if dead:
        _end_session(item, report, dead)
    if item.config.getoption("usepdb", False):
        return
    errors = list(chain(error))
    if any(is_out_of_memory(one) for one in errors):
        report.sections.append(("ftcheck: out of memory", "\n".join([*_budget(item), *_freed(error, bool(dead))])))
    elif _is_ours(item) or any(isinstance(one, FtcheckError) for one in errors):
        # A test that fails otherwise holds as much: in sys.last_exc, and in what the session remembers of a training.
        clear_locals(error)


def _is_ours(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("gpu") is not None or any(name.startswith("ft_") for name in fixtures)


def _budget(item: pytest.Item) -> list[str]:
    """What the test's marker allows it."""
    budget = item.stash.get(BUDGET, None)
    if budget is None:
        return []
    where = ", ".join(f"cuda:{device}" for device in budget.devices)
    return [f"the test may take {size(budget.memory_bytes)} of {where}, by its marker gpu(memory=...)"]


def _freed(error: BaseException, dead: bool) -> list[str]:
    """Let go of what the traceback holds; what there was before, and what there is after."""
    before = _allocated(dead)
    clear_locals(error)
    gc.collect()
    if not before:
        return ["the tensors in its traceback were freed", f"what to change: {ADVICE}"]
    torch.cuda.empty_cache()
    after = _allocated(dead)
    lines = []
    for device, (allocated, reserved, total) in before.items():
        lines.append(
            f"cuda:{device}: {size(allocated)} in tensors, {size(reserved)} reserved, of {size(total)}; "
            f"{size(allocated - after[device][0])} of it was held by the traceback, and freed"
        )
    return [*lines, f"what to change: {ADVICE}"]


def _allocated(dead: bool) -> dict[int, tuple[int, int, int]]:
    """Bytes in tensors, reserved, and in all, of each GPU that this process uses."""
    if dead or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    devices = [number for number in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(number)]
    return {
        number: (
            torch.cuda.memory_allocated(number),
            torch.cuda.memory_reserved(number),
            torch.cuda.get_device_properties(number).total_memory,
        )
        for number in devices
    }


def _death(error: BaseException) -> str:
    """Why nothing more can run on the GPU in this process; empty where it can, or where none is in use."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return ""
    for one in chain(error):
        if DEADLY.search(str(one)):
            return one_line(one)
    try:
        # What a kernel did wrong is told by a later call: perhaps by none before this one.
        torch.cuda.synchronize()
    except Exception as found:
        return "" if is_out_of_memory(found) else one_line(found)
    return ""


def _end_session(item: pytest.Item, report: Any, dead: str) -> None:
    """A worker leaves before its next test; without workers this is the last test."""
    item.config.stash[SESSION].dead_context = dead
    report.ftcheck_dead_context = dead
    if not hasattr(item.config, "workerinput"):
        item.session.shouldfail = (
            f"ftcheck: the CUDA context is dead after {item.nodeid} ({dead}): no further test can run in this process; "
            "with pytest-xdist (-n 1) another worker would go on"
        )
