"""An existing Ray cluster: what its nodes have, and a run as one task of it."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from ..errors import ExecutorError
from ..failures import one_line
from .elsewhere import Surroundings
from .mailbox import Order
from .node import Controller, carry_out
from .outcome import Outcome

# How often Ray carries out a run again whose process or node has died.
RETRIES = 3
# How long a cluster may have no node with what a run needs: one that grows on demand takes minutes to start it.
NODES_S = 300.0
LOOK_S = 2.0


class Cluster:
    """The cluster at ``RAY_ADDRESS``, or that of this machine. Raises ExecutorError where there is none."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise ExecutorError("needs Ray: pip install 'pytest-ftcheck[ray]'") from None
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                address = os.environ.get("RAY_ADDRESS", "auto")
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except Exception as error:  # Ray's own, and those of the network
                why = f"no Ray cluster can be reached ({one_line(error)})"
                raise ExecutorError(f"{why}; start one (ray start --head), or set RAY_ADDRESS") from None
        self._task = ray.remote(carry_out)

    def surroundings(self) -> Surroundings:
        """What the nodes that are there now have."""
        gpus = [int(resources.get("GPU", 0)) for resources in self._resources()]
        names = {name for resources in self._resources() for name in resources if name.startswith("accelerator_type:")}
        return Surroundings(max(gpus, default=0), tuple(sorted(name.partition(":")[2] for name in names)))

    def carry_out(self, order: Order, parcel: bytes, controller: Controller) -> Outcome:
        """The outcome of a run, from whichever node has room for it."""
        task = self._task.options(
            name=f"ftcheck: {order.title}",
            num_gpus=order.gpus,
            num_cpus=order.cpus,
            max_retries=RETRIES,
            retry_exceptions=False,
        ).remote(order, parcel, controller)
        try:
            self._wait(order, task)
            return Outcome.from_json(self._ray.get(task))
        except ExecutorError as error:
            return Outcome(error=error)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(
                error=ExecutorError(f"{order.title}: the run's task raised {one_line(error.cause or error)}")
            )
        except self._ray.exceptions.RayError as error:
            return Outcome(error=ExecutorError(_lost(order, error)))

    def disconnect(self) -> None:
        """Let go of the cluster, which ends what it still does for this process."""
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()

    def _wait(self, order: Order, task: Any) -> None:
        """Return when the task has ended. Raises ExecutorError where no node can take it for too long."""
        since = time.monotonic()
        while not self._ray.wait([task], timeout=LOOK_S)[0]:
            if any(_suffices(resources, order) for resources in self._resources()):
                since = time.monotonic()
            elif time.monotonic() - since > NODES_S:
                self._ray.cancel(task, force=True)
                raise ExecutorError(self._too_small(order))

    def _too_small(self, order: Order) -> str:
        nodes = [f"{node.get('GPU', 0):g} GPU(s) and {node.get('CPU', 0):g} CPU(s)" for node in self._resources()]
        return (
            f"{order.title} needs {order.gpus} GPU(s) and {order.cpus} CPU(s) on one node; "
            f"the cluster's nodes have {', '.join(nodes) or 'nothing: none is alive'} (for {NODES_S:g} s)"
        )

    def _resources(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


def _suffices(resources: dict[str, float], order: Order) -> bool:
    return resources.get("GPU", 0) >= order.gpus and resources.get("CPU", 0) >= order.cpus


def _lost(order: Order, error: Exception) -> str:
    return (
        f"{order.title} was lost {RETRIES + 1} times with its process or node: {one_line(error)}\n"
        "  likely cause: the node runs out of memory, or the training ends the process (a crash in native code)"
    )
