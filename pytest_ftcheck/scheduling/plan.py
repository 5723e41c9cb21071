"""What the scheduler must know of each test, which only workers see: they collect, and the controller distributes.

A worker writes it to a file before it reports what it has collected; all workers collect the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ..audit import AGAINST, AuditItem
from ..markers import GpuNeed, gpu_need
from ..parametrize import plan_of

# Trainings that a fixture stands for, with three seeds; the first that a test has counts.
TRAININGS = {"ft_pair": 6, "ft_check": 4, "ft_compare": 4, "ft_benchmark": 2, "ft_full": 1, "ft_lora": 1, "ft_run": 1}
# What is timed shares neither its GPU nor, on a machine without one, the CPU.
TIMED = ("ft_compare", "ft_benchmark")


class Planned(NamedTuple):
    """One test: ``unit`` is the same for tests that need the same runs; "" where it needs none of ours."""

    unit: str = ""
    trainings: int = 0
    gpus: int = 0
    memory_bytes: int = 0
    alone: bool = False


def planned(item: pytest.Item) -> Planned:
    """What the scheduler must know of ``item``."""
    marker = item.get_closest_marker("gpu")
    need = gpu_need(item, marker) if marker else GpuNeed(count=0)
    unit, trainings = _unit(item)
    timed = _is_against(item) or any(name in _fixtures(item) for name in TIMED)
    return Planned(unit, trainings, need.count, need.memory_bytes, need.exclusive or timed)


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


def _is_against(item: pytest.Item) -> bool:
    return isinstance(item, AuditItem) and item.path.name == AGAINST


def _unit(item: pytest.Item) -> tuple[str, int]:
    """The unit of a test, and how many trainings it may need."""
    file = item.nodeid.partition("::")[0]
    check = plan_of(item)
    if check is not None:
        # The checks of one method look at one training.
        return f"{file}::{check.method}", TRAININGS["ft_check"]
    if _is_against(item):
        return file, TRAININGS["ft_compare"]
    if isinstance(item, AuditItem):
        return item.nodeid, TRAININGS["ft_run"]
    ours = [fixture for fixture in TRAININGS if fixture in _fixtures(item)]
    if not ours:
        return "", 0
    parameters = getattr(getattr(item, "callspec", None), "id", "")
    # ft_pair comes by its runs through ft_run; what a test itself asks ft_run for, only its parameters hint at.
    arms = [name for name in ours if name != "ft_run"] or ["ft_run"]
    return f"{file}::{'+'.join(arms)}[{parameters}]", TRAININGS[arms[0]]


def write_plan(folder: Path, items: Sequence[pytest.Item]) -> None:
    """Leave the plan of ``items`` in ``folder``, unless no test among them is a matter of ours."""
    plan = [planned(item) for item in items]
    if not any(one.unit or one.gpus for one in plan):
        return
    with contextlib.suppress(OSError):
        # Not the controller's machine, or one without room: tests are then distributed without a plan.
        handle, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(plan, file)
        os.replace(temporary, folder / "plan.json")


def read_plan(folder: Path, count: int) -> list[Planned] | None:
    """The plan of ``count`` collected tests; None where no worker had anything to plan, or none that fits."""
    try:
        plan = [Planned(*one) for one in json.loads((folder / "plan.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
    return plan if len(plan) == count else None
