"""Runs that are carried out elsewhere, as the process that asks for them sees it: the session's own, or a worker's."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..codec import Record
from ..errors import ExecutorError, PredictionError
from ..store import local_folder
from .checkout import Checkout
from .executor import Trained

if TYPE_CHECKING:
    from ..options import Settings
    from ..runner import Request
    from .outcome import Outcome
    from .task import Task

# CPU threads of a run whose recipe leaves their number open: as many as it asks the cluster for, on whichever node.
CPUS = 1
# Modules are sent by value by way of a registry of the whole process.
_packing = threading.Lock()


@dataclass(frozen=True)
class Resources(Record):
    """Of a cluster: the most GPUs that one node has, and the kinds of GPUs that there are."""

    gpus: int
    gpu_names: tuple[str, ...]


class Remote:
    """The executor of a process that asks. ``carry_out`` submits a task and waits for it; ``root`` is what nodes have a
    copy of.
    """

    remote = True

    def __init__(
        self, carry_out: Callable[[Task, bytes], Outcome], resources: Resources, settings: Settings, root: Path
    ) -> None:
        self._carry_out, self._resources = carry_out, resources
        self._settings, self._root = settings, root

    def device(self) -> str:
        """The device of runs: a GPU where that is asked for, or where a node has one. Which one, its node decides."""
        chosen = self._settings
        on_gpu = self._resources.gpus or chosen.require_gpu
        return "cpu" if chosen.device == "cpu" or (chosen.device == "auto" and not on_gpu) else "cuda:0"

    def lacks(self, count: int) -> str | None:
        """Why the cluster's GPUs do not do for a test that needs ``count`` on one node; None if they do. Ray does not
        know how large they are.
        """
        most = self._resources.gpus
        return None if most >= count else f"needs {count} GPU(s) on one node, and the nodes of the cluster have {most}"

    def key(self, request: Request) -> str | None:
        """That of the stored run. On a GPU it may come from any kind that the cluster has."""
        return _with_threads(request).key(self._resources.gpu_names)

    def prepared(self, request: Request, key: str | None) -> Callable[[], Trained]:
        """Raises ExecutorError that names the part of the recipe which cannot be sent."""
        from ..predict.parcel import packed

        request = _with_threads(request)
        task = self._task(request, key)
        try:
            with _packing:
                parcel = packed(request)
        except PredictionError as error:
            raise ExecutorError(str(error)) from error
        return lambda: self._carry_out(task, parcel).trained()

    def _task(self, request: Request, key: str | None) -> Task:
        from .task import Task, present_versions

        chosen = self._settings
        return Task(
            title=request.title,
            ticket=key or secrets.token_hex(16),
            key=key or "",
            gpus=gpus_of(request),
            cpus=request.recipe.threads or CPUS,
            own_process=request.device != "cpu",
            time_limit_s=chosen.time_limit,
            retries=chosen.oom == "retry",
            cache_dir="" if chosen.no_cache else _absolute(chosen.cache_dir),
            cache_bytes=chosen.cache_size,
            checkout=Checkout.of(self._root),
            versions=present_versions(),
        )


def gpus_of(request: Request) -> int:
    """How many GPUs of one node a run needs: those of the test that asks for it first."""
    return 0 if request.device == "cpu" else request.gpus


def _with_threads(request: Request) -> Request:
    return request.on_threads(request.recipe.threads or CPUS)


def _absolute(cache_dir: str | None) -> str:
    folder = local_folder(cache_dir)
    if folder is None:
        assert cache_dir is not None
        return cache_dir
    return str(folder.parent.absolute())
