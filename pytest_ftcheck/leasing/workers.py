"""Where pytest-xdist starts its workers: how many, and which GPUs each of them sees.

A worker's environment is set in its process before anything of the project is imported there, and stays with its place:
a worker that is started in place of one that died sees the same GPUs, which nobody else has meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ..options import Settings
from .inventory import inventory
from .leases import Leases, names_of

# What a worker is told of its lease, besides what its environment shows.
KEY = "ftcheck_lease"


@dataclass(frozen=True)
class Lease:
    """What a worker was told: the names of its GPUs, how many were ``free`` for all workers, and which were not."""

    worker: str
    names: tuple[str, ...]
    free: int
    refused: tuple[str, ...]

    def too_small(self, count: int) -> str:
        """What to say to a test that needs ``count`` GPUs, which are there."""
        return (
            f"{self.worker} owns {len(self.names)} of {self.free} GPUs, the test needs {count}\n"
            f"  what to do: pytest -n {self.free // count} gives each worker {count}; --dist=load (the default) takes "
            "tests to workers that own enough"
        )


class Leasing:
    """The hooks of a session whose workers own GPUs."""

    def __init__(self) -> None:
        self.leases: Leases | None = None
        self._owners: dict[str, str] = {}
        # By what CUDA_VISIBLE_DEVICES says: a worker that takes another's place has the same.
        self._sizes: dict[str, tuple[int, ...]] = {"": ()}

    def owned(self, node: Any) -> Sequence[int] | None:
        """The memory of each GPU that the worker ``node`` owns; None for one on another machine."""
        spec = node.gateway.spec
        return self._sizes[spec.env[self.leases.variable]] if self.leases and spec.popen else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """Divide the GPUs among the workers on this machine."""
        here = [spec for spec in specs if spec.popen]
        self.leases = Leases.of(inventory())
        for spec, share in zip(here, self.leases.share(len(here)), strict=True):
            spec.env[self.leases.variable] = names_of(share)
            self._sizes[names_of(share)] = tuple(gpu.memory_bytes for gpu in share)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what it was given, and why it was not given more."""
        assert self.leases is not None
        spec = node.gateway.spec
        if not spec.popen:
            return
        given = spec.env[self.leases.variable]
        self._owners[node.gateway.id] = given
        names = [name for name in given.split(",") if name]
        node.workerinput[KEY] = [node.gateway.id, names, len(self.leases.free), list(self.leases.refused)]

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        if self.leases is not None:
            self.leases.release()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say who had which GPU, and which were refused."""
        owners = ", ".join(f"{worker}: {names}" for worker, names in self._owners.items() if names)
        if owners:
            terminalreporter.write_line(f"ftcheck: GPUs of workers: {owners}")
        for refused in self.leases.refused if self.leases else ():
            terminalreporter.write_line(f"ftcheck: not used: {refused}", yellow=True)


def wants_gpus(config: pytest.Config, settings: Settings) -> bool:
    """Whether a session asks for GPUs: by ``-m gpu``, or by an option of ours. One that does not keeps the environment
    that it was started in.
    """
    if settings.device == "cpu" or settings.device.startswith("cuda:"):
        return False
    expression = config.getoption("markexpr", "") or ""
    words = expression.replace("(", " ").replace(")", " ").split()
    selected = any(word == "gpu" and words[i - 1 : i] != ["not"] for i, word in enumerate(words))
    return selected or settings.require_gpu or settings.device == "cuda"


def worker_count(config: pytest.Config, settings: Settings) -> int | None:
    """What ``-n auto`` means: a worker for each free GPU; None where that is no matter of ours."""
    if not wants_gpus(config, settings) or os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    found = inventory()
    return max(1, len(found.free)) if found.gpus else None


def lease_of(config: pytest.Config) -> Lease | None:
    """What this worker was told of its GPUs; None for a process that owns none by lease."""
    told = getattr(config, "workerinput", {}).get(KEY)
    if told is None:
        return None
    worker, names, free, refused = told
    return Lease(worker, tuple(names), free, tuple(refused))
