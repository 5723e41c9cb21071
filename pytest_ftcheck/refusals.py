"""What ends a session before anything is collected: what would fail only later, after an hour of training.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from .errors import FtcheckError
from .options import Settings


def refuse(config: pytest.Config, chosen: Settings) -> None:
    """End the session (pytest.UsageError, one line that names the option) where an option asks for what cannot be."""
    _refuse_accepting(config, chosen)
    refuse_unknown_checks(chosen)
    if ":" in (chosen.cache_dir or ""):
        with _named("--ftcheck-cache-dir"):
            from .store import open_store

            open_store(chosen.cache_dir)
    if "html" in (chosen.report or {}):
        with _named("--ftcheck-report=html"):
            from .report.document.html import require

            require()
    if chosen.history and not hasattr(config, "workerinput"):
        with _named("--ftcheck-history"):
            from .history.place import Place

            Place(chosen.history)


def refuse_unknown_checks(chosen: Settings) -> None:
    """End the session where checks are named that there are not."""
    if not (chosen.checks or chosen.expected_failures):
        return
    from .parametrize import planned_checks

    with _named("--ftcheck-checks"):
        planned_checks(select=chosen.checks)
    with _named("--ftcheck-expected-failures"):
        planned_checks(expected_failures=chosen.expected_failures)


def _refuse_accepting(config: pytest.Config, chosen: Settings) -> None:
    """Where nothing may be accepted; workers were started by a session that may."""
    if not chosen.accepting or hasattr(config, "workerinput"):
        return
    from .acceptance import refusal

    why = refusal(chosen, config.rootpath)
    if why:
        raise pytest.UsageError(why)


@contextmanager
def _named(option: str) -> Generator[None, None, None]:
    """What is wrong is said of ``option``."""
    try:
        yield
    except FtcheckError as error:
        raise pytest.UsageError(f"{option}: {error}") from None
