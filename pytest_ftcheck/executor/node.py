"""The side of a node: one run, in a process that belongs to a cluster."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from ..content import package_digest
from ..environment import versions
from ..errors import ExecutorError
from ..predict.parcel import unpacked
from ..run import Run
from .mailbox import Order
from .outcome import Outcome


@dataclass(frozen=True)
class Controller:
    """What a node must agree with, and where the controller finds modules and relative paths. ``cache_dir``: a URL that
    every node reaches, to which the node itself publishes; None for a folder, to which the controller does.
    """

    versions: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
    folder: str
    cache_dir: str | None = None

    @classmethod
    def here(cls, cache_dir: str | None) -> Controller:
        return cls(_versions(), tuple(map(str, sys.path)), os.getcwd(), cache_dir)


def carry_out(order: Order, parcel: bytes, controller: Controller) -> str:
    """The outcome of a run as JSON."""
    outcome = Outcome.of(lambda: _run(parcel, controller))
    if outcome.run is not None and order.key and controller.cache_dir is not None:
        from ..store import open_store

        open_store(controller.cache_dir).write(order.key, outcome.run, outcome.reads)
    return outcome.to_json()


def _run(parcel: bytes, controller: Controller) -> Run:
    from ..execution import execute

    _refuse_other_versions(controller)
    sys.path += [entry for entry in controller.path if entry not in sys.path]
    if os.path.isdir(controller.folder):
        os.chdir(controller.folder)
    request = unpacked(parcel)
    return execute(request.recipe, request.method, request.seed, request.steps, request.device)


def _refuse_other_versions(controller: Controller) -> None:
    here, there = dict(_versions()), dict(controller.versions)
    differ = [f"{name} {here.get(name)} (controller: {there[name]})" for name in there if here.get(name) != there[name]]
    if differ:
        raise ExecutorError(
            f"the node {platform.node()} has {', '.join(differ)}\n"
            "  what to do: the same environment on every machine of the cluster, pytest-ftcheck included"
        )


def _versions() -> tuple[tuple[str, str], ...]:
    own = {"python": platform.python_version(), **versions(), "sources of pytest-ftcheck": package_digest()}
    return tuple(own.items())
