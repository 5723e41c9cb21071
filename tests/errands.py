"""Requests whose answer is what a function returns: what a process does without a training in it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_ftcheck import Recipe
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.limits import Limits
from pytest_ftcheck.predict.process import FORK, FRESH, in_own_process
from pytest_ftcheck.predict.request import Request

both_ways = pytest.mark.parametrize("way", [FORK, FRESH])


@dataclass(frozen=True)
class Errand(Request):
    """Does something else than to predict."""

    do: Callable[[Journal], str] = lambda journal: "done"

    def answer(self, journal: Journal) -> str:
        return self.do(journal)


def errand(do: Callable[[Journal], str]) -> Errand:
    # Nothing here imports torch, which takes a fresh interpreter seconds.
    return Errand(Recipe(model=dict, train_data=[{}]), "full", GPUS["h100"], do=do)


def run(do: Callable[[Journal], str], time_s: float = 60.0, memory_bytes: int = 2**33) -> str:
    return in_own_process(errand(do), Limits(time_s, memory_bytes))


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ends_within(seconds: float, pid: int) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True


def written(path: Path, seconds: float = 30.0) -> str:
    """What a process writes into a file, once it has."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, f"nothing in {path} after {seconds} s"
        time.sleep(0.02)
    return path.read_text()
