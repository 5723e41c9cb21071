"""Where pytest-xdist distributes tests.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..leasing.workers import Leasing
    from .scheduling import Scheduling

# What a worker is told: the folder in which it leaves the plan. And where pytest keeps how long tests took.
KEY = "ftcheck_plan"
SECONDS = "ftcheck/seconds"


class Distribution:
    """The controller's hooks. ``--dist`` given by the user is left alone."""

    def __init__(self, leasing: Leasing | None = None) -> None:
        self._leasing = leasing
        self._folder: Path | None = None
        self._scheduling: Scheduling | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to leave the plan."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ftcheck-"))
        node.workerinput[KEY] = str(self._folder)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """https://pytest-xdist.readthedocs.io/en/stable/distribution.html"""
        if config.getoption("dist") != "load" or self._folder is None:
            return None
        from xdist.scheduler import LoadScheduling

        from .scheduling import Scheduling

        cache = getattr(config, "cache", None)
        known = cache.get(SECONDS, {}) if cache else {}
        self._scheduling = Scheduling(LoadScheduling(config, log), self._folder, known, self._owned)
        return self._scheduling

    def _owned(self, node: Any) -> Sequence[int] | None:
        return self._leasing.owned(node) if self._leasing else None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Remember how long tests took, so that the next session begins with the longest."""
        took = self._scheduling.seconds if self._scheduling else {}
        cache = getattr(session.config, "cache", None)
        if took and cache:
            cache.set(SECONDS, {**cache.get(SECONDS, {}), **took})

    def pytest_unconfigure(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Planning:
    """The workers' hook."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @pytest.hookimpl(tryfirst=True)  # before pytest-xdist tells the controller that this worker has collected
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        from .plan import write_plan

        write_plan(self._folder, session.items)


def join(config: pytest.Config, leasing: Leasing | None) -> None:
    """Take part in the distribution of tests, on whichever side of it this process is."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is None:
        config.pluginmanager.register(Distribution(leasing), "ftcheck-distribution")
    elif KEY in workerinput:
        config.pluginmanager.register(Planning(workerinput[KEY]), "ftcheck-planning")
