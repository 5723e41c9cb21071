"""How a session comes by its cluster: who sees all of it connects, and workers are told whom to ask."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ..errors import ExecutorError
from ..session import Session
from ..store import local_folder
from .cluster import Cluster
from .relay import Contact, Relay
from .remote import Remote

# The name under which workers find it in their input.
INPUT = "ftcheck_executor"
PLUGIN = "ftcheck-executor"


def join(config: pytest.Config, session: Session) -> None:
    """Give the session what carries out its runs. Raises pytest.UsageError where there is no cluster."""
    chosen = session.settings
    told = getattr(config, "workerinput", {}).get(INPUT)
    if told is not None:
        contact = Contact.from_json(told)
        session.remote = Remote(contact.carry_out, contact.resources, chosen, config.rootpath)
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    try:
        cluster = Cluster(config.rootpath, _excludes(config, session))
    except ExecutorError as error:
        raise pytest.UsageError(f"--ftcheck-executor=ray: {error}") from None
    resources = cluster.resources()
    session.remote = Remote(cluster.carry_out, resources, chosen, config.rootpath)
    relay = Relay(cluster.carry_out, resources) if config.getoption("tx", None) else None
    config.pluginmanager.register(Connected(cluster, relay), PLUGIN)


def _excludes(config: pytest.Config, session: Session) -> list[str]:
    """What changes with every session, and is no source: with it every session's copy would be another one."""
    folder, root = local_folder(session.settings.cache_dir), config.rootpath
    absolute = folder.parent.absolute() if folder else None
    inside = [f"/{absolute.relative_to(root)}"] if absolute and root in absolute.parents else []
    return [".pytest_cache", ".git", "__pycache__", *inside]


class Connected:
    """The hooks of the process that is connected to the cluster."""

    def __init__(self, cluster: Cluster, relay: Relay | None) -> None:
        self._cluster, self._relay = cluster, relay

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell each worker, also one that takes the place of another, whom to ask."""
        if self._relay is not None:
            node.workerinput[INPUT] = self._relay.contact.to_json()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where runs were trained, and what was lost on the way."""
        counts = Counter(self._cluster.nodes)
        if counts:
            nodes = ", ".join(f"{node}: {count}" for node, count in sorted(counts.items()))
            terminalreporter.write_line(f"ftcheck: runs of the Ray cluster, by the machine of their node: {nodes}")
        for loss in self._cluster.losses:
            terminalreporter.write_line(f"ftcheck: submitted again: {loss}", yellow=True)

    def pytest_unconfigure(self) -> None:
        """Let go of the cluster before those who wait for it are."""
        self._cluster.close()
        if self._relay is not None:
            self._relay.close()
