"""Progress of workers: they have no terminal, and post it on the session's board; the controller shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from ..board import Board
from ..errors import RecordError
from .state import State
from .terminal import Display
from .watch import EVERY_S

NOTICE = "progress-"
# After pytest has written something: it often writes more at once.
PAUSE_S = 0.3


class Poster:
    """The audience of a worker."""

    def __init__(self, board: Board, worker: str) -> None:
        self._board, self._name = board, NOTICE + worker

    def tell(self, state: State) -> None:
        self._board.post(self._name, state.to_json())

    def ended(self) -> None:
        self._board.remove(self._name)


class Panel:
    """What the workers of a session post, on the controller's display.

    From a thread, because xdist's loop gives no time to anybody; it writes only while no hook does in which pytest
    may write, and what it has written is gone before.
    """

    def __init__(self, board: Board, display: Display) -> None:
        self._board, self._display = board, display
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._not_before_s = 0.0
        # Worker -> its notice, and when it was first seen: a notice grows older while a step takes long.
        self._seen: dict[str, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._show_until_ended, name="ftcheck-progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show nothing any more."""
        self._ended.set()
        self._thread.join()
        self._display.clear()

    def states(self) -> dict[str, State]:
        """What the workers do, by their names."""
        names = [name for name in self._board.names() if name.startswith(NOTICE)]
        notices = {name.removeprefix(NOTICE): self._board.read(name) for name in names}
        now_s, found = time.monotonic(), {}
        for worker, notice in notices.items():
            with contextlib.suppress(RecordError, TypeError):
                state = State.from_json(notice)
                if self._seen.get(worker, ("", 0.0))[0] != notice:
                    self._seen[worker] = notice, now_s
                found[worker] = dataclasses.replace(state, elapsed_s=state.elapsed_s + now_s - self._seen[worker][1])
        return found

    def show(self) -> None:
        """Show what there is to be shown now."""
        states = self.states()
        with self._lock:
            if self._ended.is_set() or time.monotonic() < self._not_before_s:
                return
            text = self._display.text(states)
            if text is None:
                self._display.clear()
            else:
                self._display.write(text)

    def _show_until_ended(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.show()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """In the body the screen is pytest's."""
        with self._lock:
            self._display.clear()
            try:
                yield
            finally:
                self._not_before_s = time.monotonic() + PAUSE_S

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, object, object]:
        with self._aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, object, object]:
        with self._aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, object, object]:
        with self._aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> Generator[None, object, object]:
        """What a worker was at, it is at no more."""
        self._board.remove(NOTICE + node.gateway.id)
        with self._aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_keyboard_interrupt(self) -> Generator[None, object, object]:
        with self._aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        self.close()
        return (yield)
