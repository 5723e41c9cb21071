"""Workers that end before their tests do: because a CUDA context is dead, or because they hang.

pytest-xdist takes the first of a dead worker's tests that is not complete for the one that killed it, reports it as
failed, and starts another worker. A worker with a dead context leaves between two tests: that would be the wrong one.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from .scratch import prefix
from .session import SESSION, Session

if TYPE_CHECKING:
    from .watchdog import Watchdog

# What a worker is told: the folder in which what hung is written, and which does not exist before something has.
FOLDER = "ftcheck_crashes"


class Crashes:
    """On the controller: tells why workers ended, and lets what they had not begun be run by others."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"{prefix()}crashes-{os.urandom(4).hex()}"
        self._left: dict[str, str] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FOLDER] = str(self.folder)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the workers that are about to leave."""
        why = getattr(report, "ftcheck_dead_context", None)
        node = getattr(report, "node", None)
        if why and node is not None:
            self._left[node.gateway.id] = f"after {report.nodeid}: {why}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """Say what hung, with its stacks; and let nobody be blamed for a worker that left between two tests."""
        worker = report.node.gateway.id
        if worker not in self._left:
            told = hung(self.folder / worker)
            if told:
                report.longrepr = told
                _mark(self.folder, crashitem)
            return
        # A report that counts for nothing.
        report.outcome, report.when, report.longrepr = "passed", "setup", None
        # Schedulers by scope give an unfinished test to somebody else by themselves.
        with contextlib.suppress(NotImplementedError):
            sched.mark_test_pending(crashitem)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for worker, why in self._left.items():
            terminalreporter.write_line(f"ftcheck: worker {worker} was ended {why}; another one went on", yellow=True)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def guard(config: pytest.Config) -> Callable[[], Watchdog] | None:
    """What makes the watchdog of this process; None under a debugger, who takes the time that they need."""
    if config.getoption("usepdb", False):
        return None

    def make() -> Watchdog:
        from .watchdog import Watchdog

        return Watchdog(lambda: _terminal(config), dumps_of(config))

    return make


def _terminal(config: pytest.Config) -> int:
    """A file descriptor of the error stream as it was before pytest captured it."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        return os.dup(2)


def dumps_of(config: pytest.Config) -> Path | None:
    """The folder of this worker for what it hung in; None where this process is no worker."""
    given = getattr(config, "workerinput", {})
    return Path(given[FOLDER]) / given["workerid"] if FOLDER in given else None


def hung(folder: Path) -> str:
    """What the watcher of a worker has written; empty where that did not end it."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("*")] if folder.exists() else []
    return next((text for text in texts if text.startswith("ftcheck:")), "")


def has_hung(item: pytest.Item) -> bool:
    """Whether this test has hung on another worker, and was reported: schedulers by scope would repeat it for ever."""
    given = getattr(item.config, "workerinput", {})
    return FOLDER in given and _mark_of(Path(given[FOLDER]), item.nodeid).exists()


def _mark(folder: Path, nodeid: str) -> None:
    _mark_of(folder, nodeid).touch()


def _mark_of(folder: Path, nodeid: str) -> Path:
    import hashlib

    return folder / (hashlib.blake2b(nodeid.encode(), digest_size=16).hexdigest() + ".hung")


def leave(session: Session) -> NoReturn:
    """End this worker: its reports have been sent, and what it would run next is run by another one."""
    with contextlib.suppress(Exception):
        session.close()
        # Folders of trainings go with them.
        gc.collect()
    os._exit(1)


def on_next_test(item: pytest.Item) -> bool | None:
    """Before a test: True where it must not be run here; a worker whose context is dead does not return."""
    session = item.config.stash[SESSION]
    if session.dead_context and hasattr(item.config, "workerinput"):
        leave(session)
    return True if has_hung(item) else None
