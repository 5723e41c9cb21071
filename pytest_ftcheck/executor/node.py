"""On a node: one run, in a process of the cluster's."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..allowance import Allowance
from ..errors import FtcheckError
from ..predict.parcel import unpacked
from ..store import Store, local_folder, open_store
from .executor import LocalExecutor, Trained
from .outcome import Outcome
from .task import Task

if TYPE_CHECKING:
    from ..runner import Request


def carry_out(task: Task, parcel: bytes) -> Iterator[str]:
    """First the node's name, when the run begins and its time limit counts; then its outcome as JSON.

    ``parcel`` is the request, which Ray has brought here from the session; nothing that lay on a disk is unpickled.
    """
    node = platform.node()
    with task.checkout.entered() as told:
        try:
            task.refuse_other_versions()
            request = unpacked(parcel)
        except FtcheckError as error:
            yield node
            yield Outcome.failed(error, node, told).to_json()
            return
        yield node
        yield Outcome.of(node, lambda: _trained(task, request, told), told).to_json()


def _trained(task: Task, request: Request, told: Callable[[str], str]) -> Trained:
    store = _store(task) if task.key else None
    # A node that died when it had kept its run: this is the second try.
    kept = store.read(task.key) if store else None
    if kept is not None and (task.retries or not kept.retried):
        return Trained(kept, None, stored=True)
    # Without a folder of checkpoints: a node that is taken for dead may still be writing to it.
    run, reads, _ = LocalExecutor(Allowance(task.time_limit_s, task.retries)).prepared(request, task.key)()
    # By the names that they have in the session, which is to believe the stored run.
    named = {told(path): digest for path, digest in (reads or {}).items()}
    if store is not None:
        store.write(task.key, run, named)
    return Trained(run, named, stored=store is not None)


def _store(task: Task) -> Store | None:
    """The session's cache, where this node has it: at a URL, or in a folder that is there."""
    if not task.cache_dir:
        return None
    folder = local_folder(task.cache_dir)
    shared = folder is None or Path(folder).is_dir()
    return open_store(task.cache_dir, task.cache_bytes) if shared else None
