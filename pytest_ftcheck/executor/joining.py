"""How a session gets its runs from elsewhere: the controller submits, and its workers are told where to ask."""

from __future__ import annotations

from typing import Any

import pytest

from ..errors import ExecutorError
from ..session import Session
from ..store import local_folder, open_store
from .dispatcher import Dispatcher
from .elsewhere import Elsewhere

# The name under which workers find it in their input.
INPUT = "ftcheck_executor"


def join(config: pytest.Config, session: Session) -> None:
    """Give the session what it gets its runs from. Raises pytest.UsageError where there is no cluster."""
    handed = getattr(config, "workerinput", {}).get(INPUT)
    if handed is not None:
        session.elsewhere = Elsewhere.from_json(handed)
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    from .cluster import Cluster

    chosen = session.settings
    try:
        cluster = Cluster()
    except ExecutorError as error:
        raise pytest.UsageError(f"--ftcheck-executor={chosen.executor}: {error}") from None
    store = None if chosen.no_cache else open_store(chosen.cache_dir, chosen.cache_size)
    remote = chosen.cache_dir if store and local_folder(chosen.cache_dir) is None else None
    session.dispatcher = Dispatcher(cluster, store, remote)
    session.elsewhere = session.dispatcher.elsewhere
    config.pluginmanager.register(_Handing(session.elsewhere), "ftcheck-executor")


class _Handing:
    """Tells each worker, also one that takes the place of another, where to ask."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._input = elsewhere.to_json()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """https://pytest-xdist.readthedocs.io: ``workerinput`` is what the worker gets."""
        node.workerinput[INPUT] = self._input
