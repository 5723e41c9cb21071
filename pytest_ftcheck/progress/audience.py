"""Who is told how far this process's trainings have come.

It belongs to the process, as its terminal does: a training is started in many places, and none of them knows of pytest.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Protocol

from .state import MEASURES, TRAINS, WAITS, State
from .watch import EVERY_S, ProgressWatch


class Audience(Protocol):
    """Somebody who is told, at every change of what is done and then once in ``EVERY_S``."""

    def tell(self, state: State) -> None:
        """This is done now."""

    def ended(self) -> None:
        """It is done no more, and something else may be written."""


# With the process in which it was admitted; that of a session within a session is last.
_audiences: list[tuple[Audience, int]] = []
# The test that trains or waits, and since when.
_since: tuple[str, float] = ("", 0.0)


def admit(audience: Audience) -> None:
    """From now on ``audience`` is told."""
    _audiences.append((audience, os.getpid()))


def dismiss(audience: Audience) -> None:
    """It is told no more."""
    _audiences[:] = [pair for pair in _audiences if pair[0] is not audience]


@contextlib.contextmanager
def training(what: str, steps: int, done: int = 0) -> Iterator[list[ProgressWatch]]:
    """A training of ``steps`` updates in the body, of which ``done`` were made before; it is to be seen by the watcher
    (none where nobody is told).
    """
    audience = _present()
    if audience is None:
        yield []
        return
    test = _test()
    _elapsed_s(test)

    def tell(step: int, loss: float | None, left_s: float | None) -> None:
        audience.tell(State(what, test, TRAINS, _elapsed_s(test), step, steps, loss, left_s))

    try:
        yield [ProgressWatch(steps, tell, done)]
    finally:
        audience.ended()


@contextlib.contextmanager
def measuring(what: str) -> Iterator[None]:
    """In the body the memory of a training is measured."""
    audience, test = _present(), _test()
    if audience is not None:
        audience.tell(State(what, test, MEASURES, _elapsed_s(test)))
    try:
        yield
    finally:
        if audience is not None:
            audience.ended()


class Wait:
    """What is told of runs that other processes train, as a context in which ``goes_on`` is called again and again."""

    def __init__(self) -> None:
        self._audience, self._test = _present(), _test()
        self._due_s = 0.0

    def __enter__(self) -> Wait:
        return self

    def __exit__(self, *_: object) -> None:
        if self._audience is not None and self._due_s:
            self._audience.ended()

    def goes_on(self, what: str) -> None:
        """``what`` is not there yet."""
        now_s = time.monotonic()
        if self._audience is not None and now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            self._audience.tell(State(what, self._test, WAITS, _elapsed_s(self._test)))


def _present() -> Audience | None:
    # A process that was forked off has the list of its parent, and not its terminal.
    return _audiences[-1][0] if _audiences and _audiences[-1][1] == os.getpid() else None


def _test() -> str:
    """The node id of the test that runs, in the variable in which pytest has it."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def _elapsed_s(test: str) -> float:
    """How long ``test`` has been at it: one of many short trainings is a long test."""
    global _since
    if _since[0] != test:
        _since = (test, time.monotonic())
    return time.monotonic() - _since[1]
