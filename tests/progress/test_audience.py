from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from progress.listener import Listener
from recipes import tiny_recipe

from pytest_ftcheck.progress import audience
from pytest_ftcheck.progress.audience import Wait, measuring, training
from pytest_ftcheck.progress.state import TRAINS, WAITS
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore


def test_where_nobody_listens_nothing_watches() -> None:
    with training("narrow", 5) as watchers, measuring("narrow"), Wait() as wait:
        wait.goes_on("narrow")
        assert watchers == []


def test_the_audience_is_told_that_it_ended_also_when_it_failed(listener: Listener) -> None:
    with pytest.raises(KeyboardInterrupt), training("narrow", 5):
        raise KeyboardInterrupt
    assert listener.endings == 1


def test_a_session_within_a_session_has_the_floor_until_it_ends(listener: Listener) -> None:
    inner = Listener()
    audience.admit(inner)
    with measuring("of the inner one"):
        pass
    audience.dismiss(inner)
    with measuring("of the outer one"):
        pass
    assert [state.what for state in inner.states] == ["of the inner one"]
    assert [state.what for state in listener.states] == ["of the outer one"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_tells_nobody(listener: Listener) -> None:
    child = os.fork()
    if child == 0:
        with training("narrow", 5) as watchers:
            os._exit(len(watchers))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with training("narrow", 5) as watchers:
        assert len(watchers) == 1


def test_the_time_of_a_test_goes_on_from_one_training_to_the_next(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([10.0, 10.0, 14.0, 30.0, 30.0])
    monkeypatch.setattr(audience.time, "monotonic", lambda: next(times))
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_it.py::test_a (setup)")
    with measuring("one"), measuring("two"):
        pass
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_it.py::test_b (call)")
    with measuring("three"):
        pass
    assert [(s.test, s.elapsed_s) for s in listener.states] == [
        ("test_it.py::test_a", 0.0),
        ("test_it.py::test_a", 4.0),
        ("test_it.py::test_b", 0.0),
    ]


def test_a_run_that_another_process_trains_is_said_to_be_waited_for(listener: Listener, tmp_path: Path) -> None:
    store, request = RunStore(tmp_path), Request(tiny_recipe(), "lora", 3, 4, "cpu")
    key = request.key()
    assert key is not None
    claimed, give_back = threading.Event(), threading.Event()

    def other() -> None:
        with store.claim(key) as ours:
            assert ours
            claimed.set()
            give_back.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert claimed.wait(60)
    told = listener.tell
    listener.tell = lambda state: (told(state), give_back.set())  # type: ignore[method-assign, func-returns-value]
    Runner(RunStore(tmp_path)).run(request)
    thread.join(60)
    first = listener.states[0]
    assert (first.doing, first.what) == (WAITS, "tiny, lora, seed 3")
    assert WAITS not in {state.doing for state in listener.states[1:]}, "told again within a moment"
    assert listener.endings == 3  # the training, its memory, the wait


def test_a_training_of_the_checks_is_told_too(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ftcheck.evidence.training import Variation, carry_out
    from pytest_ftcheck.progress import watch

    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    carry_out(tiny_recipe(), "lora", "cpu", 0, Variation(steps=2))
    assert [(s.doing, s.what, s.step, s.steps) for s in listener.states] == [
        (TRAINS, "tiny, lora", 1, 2),
        (TRAINS, "tiny, lora", 2, 2),
    ]
