"""What the plugin keeps during a pytest session.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .options import Settings

if TYPE_CHECKING:
    from .runner import Runner


class Session:
    """The settings, the one runner, and the runs that no report has carried to the terminal yet."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fresh: list[str] = []
        self._runner: Runner | None = None

    def runner(self, shared_folder: Callable[[], Path]) -> Runner:
        """The session's runner. ``shared_folder`` gives a folder that the session's workers share and nobody else."""
        if self._runner is None:
            from .runner import Runner
            from .store import RunStore, default_folder

            chosen = self.settings.cache_dir
            if self.settings.no_cache:
                folder = shared_folder()
            else:
                folder = Path(chosen) / "runs" if chosen else default_folder()
            self._runner = Runner(RunStore(folder), lambda run: self.fresh.append(run.to_json()))
        return self._runner


SESSION = pytest.StashKey[Session]()
