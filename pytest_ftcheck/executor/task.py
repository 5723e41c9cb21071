"""A run for a node to carry out, and what must be as it is in the session."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from ..codec import Record
from ..content import package_digest
from ..environment import versions
from ..errors import ExecutorError
from .checkout import Checkout


@dataclass(frozen=True)
class Task(Record):
    """All that a node is told of a run, but for the request for it, which is sent beside it.

    ``own_process``: whether the process that carries it out is to end with it, because it keeps what it took of a GPU.
    ``ticket``: the same for the same run, so that it is submitted once, whoever asks. ``key``: that of the stored run,
    "" for one that is to be trained anew. ``gpus`` and ``cpus``: what it needs, on one node. ``cache_dir``: where runs
    are kept, "" for nowhere that a node may know. ``title`` is for people.
    """

    title: str
    ticket: str
    key: str
    gpus: int
    cpus: int
    own_process: bool
    time_limit_s: float | None
    retries: bool
    cache_dir: str
    cache_bytes: int | None
    checkout: Checkout
    versions: dict[str, str]

    def refuse_other_versions(self) -> None:
        """Raise ExecutorError on a node that has other packages than the session: what it trains is another run."""
        here = present_versions()
        differ = [f"{name} {here.get(name)} (session: {v})" for name, v in self.versions.items() if here.get(name) != v]
        if differ:
            raise ExecutorError(
                f"the node {platform.node()} has {', '.join(differ)}\n"
                "  what to do: the same environment on every machine of the cluster, pytest-ftcheck included"
            )


def present_versions() -> dict[str, str]:
    """Of Python, of the packages that a run depends on, and of this one's sources."""
    return {"python": platform.python_version(), **versions(), "sources of pytest-ftcheck": package_digest()}
