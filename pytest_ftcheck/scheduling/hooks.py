"""Where pytest-xdist distributes tests.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..controller import Controller
    from ..leasing.workers import Leasing
    from .scheduling import Scheduling

# Where pytest keeps how long tests took.
SECONDS = "ftcheck/seconds"


class Distribution:
    """The hooks of a controller whose workers leave their plan on its board. ``--dist`` given by the user is left
    alone.
    """

    def __init__(self, controller: Controller, leasing: Leasing | None = None) -> None:
        self._controller, self._leasing = controller, leasing
        self._scheduling: Scheduling | None = None

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """https://pytest-xdist.readthedocs.io/en/stable/distribution.html"""
        board = self._controller.board
        if config.getoption("dist") != "load" or board is None:
            return None
        from xdist.scheduler import LoadScheduling

        from .scheduling import Scheduling

        cache = getattr(config, "cache", None)
        known = cache.get(SECONDS, {}) if cache else {}
        self._scheduling = Scheduling(LoadScheduling(config, log), board, known, self._owned)
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
