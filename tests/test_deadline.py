from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from pytest_ftcheck import deadline as deadline_module
from pytest_ftcheck.deadline import deadline
from pytest_ftcheck.errors import TrainingError


def test_a_body_that_takes_too_long_is_ended_and_named() -> None:
    start = time.perf_counter()
    with pytest.raises(TrainingError, match=r"the training took longer than 0\.2 s"), deadline(0.2, "the training"):
        time.sleep(30)
    assert time.perf_counter() - start < 5


def test_a_body_that_ends_in_time_leaves_no_alarm_behind() -> None:
    with deadline(0.2, "the training"):
        pass
    time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_errors_of_the_body_come_out_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), deadline(5, "the training"):
        _ = 1 / 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def surviving(first: list[object] | None = None) -> None:
    """A loop that goes on whatever one of its rounds does, once ``first`` is let go."""
    if first:
        first.clear()
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def test_a_body_that_catches_every_error_is_ended_all_the_same() -> None:
    with pytest.raises(TrainingError), deadline(0.2, "the training"):
        surviving()


def test_an_alarm_of_somebody_else_is_left_alone() -> None:
    def theirs(*_: object) -> None:
        """pytest-timeout's."""

    before = signal.signal(signal.SIGALRM, theirs)
    try:
        with deadline(0.05, "the training"):
            time.sleep(0.1)
        assert signal.getsignal(signal.SIGALRM) is theirs
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_there_is_no_limit() -> None:
    ended = []

    def body() -> None:
        with deadline(0.05, "the training"):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert ended


class Finalised:
    """Takes its time to go, where no error gets out."""

    def __init__(self, error: type[Exception] | None = None) -> None:
        self._error = error

    def __del__(self) -> None:
        if self._error:
            raise self._error
        end = time.perf_counter() + 0.4
        while time.perf_counter() < end:
            pass


def test_an_alarm_that_rings_in_a_finaliser_is_told_to_nobody_and_rings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    monkeypatch.setattr(deadline_module, "AGAIN_S", 0.1)
    before = sys.unraisablehook
    with pytest.raises(TrainingError), deadline(0.1, "the training"):
        surviving([Finalised()])
    assert told == []
    with deadline(5, "the training"):
        Finalised(ZeroDivisionError)
    assert told == [ZeroDivisionError], "what is not ours is told as ever"
    assert sys.unraisablehook is before
