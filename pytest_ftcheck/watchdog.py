"""The end of a process that hangs where no Python code runs: in a CUDA call, a collective, a lock of a library."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .process_group import apart
from .scratch import prefix

# A signal that no training uses: SIGUSR1 and SIGUSR2 are Slurm's and its users'.
SIGNAL = getattr(signal, "SIGRTMAX", None)


class Watchdog:
    """Starts the watcher when it is first needed, and tells it what may take how long.

    ``terminal`` gives a file descriptor that the user sees, to be closed after use: what is told of a hang is written
    there. ``dumps``: a folder in which it is written instead, for the controller that sees this process die.
    """

    def __init__(self, terminal: Callable[[], int], dumps: Path | None = None) -> None:
        self._terminal, self._dumps = terminal, dumps
        self._process: subprocess.Popen[bytes] | None = None
        self._dump = ""

    @contextlib.contextmanager
    def watching(self, seconds: float, told: str) -> Iterator[None]:
        """End this process, having told ``told`` and the stacks of all threads, where the body takes longer."""
        self._order({"seconds": seconds, "told": told})
        try:
            yield
        finally:
            self._order(None)

    def rest(self) -> None:
        """Forget the order: a debugger has stopped what is watched."""
        if self._process is not None:
            self._order(None)

    def close(self) -> None:
        """End the watcher."""
        if self._process is None:
            return
        assert SIGNAL is not None
        faulthandler.unregister(SIGNAL)
        self._file.close()
        with contextlib.suppress(OSError):
            os.close(self._line)
        self._process.wait()
        self._process = None

    def _order(self, order: dict[str, object] | None) -> None:
        if self._process is None:
            self._start()
        # A watcher that somebody has killed: then there is no limit, and no reason to fail.
        with contextlib.suppress(OSError):
            os.write(self._line, json.dumps(order).encode() + b"\n")

    def _start(self) -> None:
        assert SIGNAL is not None
        if self._dumps is not None:
            self._dumps.mkdir(parents=True, exist_ok=True)
        handle, self._dump = tempfile.mkstemp(prefix=prefix() + "stacks-", dir=self._dumps)
        self._file = os.fdopen(handle, "w")
        faulthandler.register(SIGNAL, file=self._file, all_threads=True)
        reading, self._line = os.pipe()
        terminal = self._terminal()
        leftovers = str(Path(tempfile.gettempdir()) / f"{prefix()}*")
        script, place = Path(__file__).with_name("watcher.py"), "terminal" if self._dumps is None else "file"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(os.getpid()), self._dump, str(int(SIGNAL)), leftovers, place],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            **apart(),
        )
        os.close(reading)
        os.close(terminal)


# The one of the session that runs; a session within a session (pytester) has its own.
_watchdogs: list[Watchdog] = []


def install(watchdog: Watchdog) -> None:
    """Let ``watched`` be held to by ``watchdog``, until it is removed."""
    _watchdogs.append(watchdog)


def remove(watchdog: Watchdog) -> None:
    _watchdogs.remove(watchdog)
    watchdog.close()


@contextlib.contextmanager
def watched(seconds: float, grace_s: float, what: str) -> Iterator[None]:
    """End this process where ``what`` takes longer than ``seconds`` and ``grace_s``; nothing without a session of
    pytest, or without signals of that kind (Windows, macOS).
    """
    if not _watchdogs or SIGNAL is None:
        yield
        return
    told = (
        f"ftcheck: {what} took longer than {seconds:g} s, and after {grace_s:g} s more had not come back from native "
        f"code: the process was ended\n  in {os.environ.get('PYTEST_CURRENT_TEST', 'no test')}\n"
        "  likely cause: a kernel, a collective or a lock that waits for ever\n  the stacks of all threads:"
    )
    with _watchdogs[-1].watching(seconds + grace_s, told):
        yield
