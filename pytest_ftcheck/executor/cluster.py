"""An existing Ray cluster: what its nodes have, and a run as one task of it, retried where its node dies."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..deadline import GRACE_S
from ..errors import ExecutorError, FtcheckError, TimeLimitError
from ..failures import one_line
from .node import carry_out
from .outcome import Outcome
from .remote import Resources
from .task import Task

# How often a run is submitted again whose node or process has died; Ray's own default for tasks.
RETRIES = 3
# How long a run whose node has died waits for another one that can take it.
NODES_S = 120.0
LOOK_S = 0.5
# Of the first contact: Ray itself goes on for minutes, and prints meanwhile.
CONNECT_S = 5.0


class Cluster:
    """The cluster at ``RAY_ADDRESS``, or the one of this machine. Its nodes get a copy of ``root`` without what
    ``excludes`` names. Raises ExecutorError where there is none.
    """

    def __init__(self, root: Path, excludes: Sequence[str] = ()) -> None:
        try:
            import ray
        except ImportError:
            raise ExecutorError("needs Ray: pip install 'pytest-ftcheck[ray]'") from None
        self._ray: Any = ray
        self.address = os.environ.get("RAY_ADDRESS") or "auto"
        _refuse_address(self.address)
        self._connect(root, excludes)
        # By whether the process ends with the task: for GPUs that is Ray's own default, where it knows of them here.
        self._remote = {False: ray.remote(carry_out), True: ray.remote(max_calls=1)(carry_out)}
        lost = ("NodeDiedError", "LocalRayletDiedError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError")
        self._lost = tuple(getattr(ray.exceptions, name) for name in lost)
        self._closed = threading.Event()
        self._pending: list[Any] = []
        # What became of tasks, for the summary: the nodes of those that ended, and what was said of those that died.
        self.nodes: list[str] = []
        self.losses: list[str] = []

    def resources(self) -> Resources:
        """What the nodes that are there now have."""
        nodes = self._nodes()
        kinds = {name.partition(":")[2] for node in nodes for name in node if name.startswith("accelerator_type:")}
        return Resources(max((int(node.get("GPU", 0)) for node in nodes), default=0), tuple(sorted(kinds)))

    def carry_out(self, task: Task, parcel: bytes) -> Outcome:
        """The outcome of a run, from whichever node has room for it. Raises ExecutorError and TimeLimitError."""
        for attempt in range(1 + RETRIES):
            try:
                outcome = self._attempt(task, parcel, NODES_S if attempt else 0.0)
            except self._lost as error:
                self.losses.append(f"{task.title}: {_said(error)}")
            except self._ray.exceptions.RayError as error:
                raise ExecutorError(f"{task.title}: the cluster could not carry it out: {_said(error)}") from None
            else:
                self.nodes.append(outcome.node)
                return outcome
        raise ExecutorError(
            f"{task.title} was lost {1 + RETRIES} times with its process or node; the last time: "
            f"{self.losses[-1].removeprefix(task.title + ': ')}\n"
            "  likely cause: the node runs out of memory, or the training ends its process (a crash in native code)"
        )

    def close(self) -> None:
        """Let go of the cluster, which ends what it still does for this session."""
        self._closed.set()
        end = time.monotonic() + CONNECT_S
        # Nobody may ask Ray for anything after that: it would start a cluster of its own.
        while self._pending and time.monotonic() < end:
            time.sleep(LOOK_S / 10)
        self._ray.shutdown()

    def _connect(self, root: Path, excludes: Sequence[str]) -> None:
        if self._ray.is_initialized():
            raise ExecutorError("this process has connected to Ray already (ray.init in a conftest or plugin)")
        try:
            self._ray.init(
                address=self.address,
                runtime_env={"working_dir": str(root), "excludes": list(excludes)},
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except Exception as error:  # Ray's own, those of the network, and that of a folder too large to be copied
            if self.address == "auto":
                why = f"no Ray cluster can be reached from this machine, and RAY_ADDRESS is not set ({one_line(error)})"
            else:
                why = f"the Ray cluster at {self.address} cannot be used ({one_line(error)})"
            raise ExecutorError(why) from None

    def _attempt(self, task: Task, parcel: bytes, patience_s: float) -> Outcome:
        # Ray's own retries are off: a process that was ended for its time limit must not begin again.
        options = {"num_gpus": task.gpus, "num_cpus": task.cpus, "max_retries": 0, "num_returns": "streaming"}
        function = self._remote[task.own_process].options(name=f"ftcheck: {task.title}", **options)
        stream = function.remote(task, parcel)
        self._pending.append(stream)
        try:
            node = self._next(stream, self._finding_room(task, patience_s))
            return Outcome.from_json(self._next(stream, _within_limit(task, node)))
        except FtcheckError:
            self._ray.cancel(stream, force=True)
            raise
        finally:
            self._pending.remove(stream)

    def _next(self, stream: Any, look: Callable[[], None]) -> str:
        """The next that a task gives; ``look`` raises where that takes too long."""
        while not self._ray.wait([stream], timeout=LOOK_S)[0]:
            if self._closed.is_set():
                raise ExecutorError("the session has ended")
            look()
        given = self._ray.get(next(stream))
        assert isinstance(given, str)
        return given

    def _finding_room(self, task: Task, patience_s: float) -> Callable[[], None]:
        since = time.monotonic()

        def look() -> None:
            nonlocal since
            if any(_suffices(node, task) for node in self._nodes()):
                since = time.monotonic()
            elif time.monotonic() - since >= patience_s:
                raise ExecutorError(self._too_small(task))

        return look

    def _too_small(self, task: Task) -> str:
        nodes = [f"{node.get('GPU', 0):g} GPU(s) and {node.get('CPU', 0):g} CPU(s)" for node in self._nodes()]
        return (
            f"{task.title} needs {task.gpus} GPU(s) and {task.cpus} CPU(s) on one node; "
            f"the nodes of the Ray cluster have {', '.join(nodes) or 'nothing: none is alive'}"
        )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


def _refuse_address(address: str) -> None:
    """Raise ExecutorError for one where nobody answers, and for what is no cluster that this machine is a node of."""
    if address == "local" or address.startswith("ray://"):
        raise ExecutorError(
            f"RAY_ADDRESS is {address}; allowed: HOST:PORT or auto, of a cluster with this machine in it"
        )
    found = re.fullmatch(r"\[?([^\[\]]+)\]?:(\d+)", address)
    if found is not None:
        try:
            socket.create_connection((found[1], int(found[2])), timeout=CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise ExecutorError(f"no Ray cluster answers at RAY_ADDRESS={address} ({one_line(error)})") from None


def _within_limit(task: Task, node: str) -> Callable[[], None]:
    """The end of a training that does not come back from native code, where the node's own alarm does not reach it."""
    limit_s = task.time_limit_s
    # After out of memory a second try has a limit of its own.
    end = None if limit_s is None else time.monotonic() + limit_s * (2 if task.retries else 1) + GRACE_S

    def look() -> None:
        if end is not None and time.monotonic() > end:
            raise TimeLimitError(
                f"{task.title}: the run took longer than {limit_s:g} s on {node}, and after {GRACE_S:g} s more had not "
                "come back from native code: its process was ended"
            )

    return look


def _suffices(node: dict[str, float], task: Task) -> bool:
    return node.get("GPU", 0) >= task.gpus and node.get("CPU", 0) >= task.cpus


def _said(error: BaseException) -> str:
    """The first sentence of what Ray says, which goes on about its tools."""
    return one_line(error).partition(". ")[0]
