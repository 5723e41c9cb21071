"""A process of its own ends when it must, and leaves its parent as it was."""

from __future__ import annotations

import _thread
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from errands import both_ways, ends_within, run, written

from pytest_ftcheck.errors import PredictionError, RecipeError
from pytest_ftcheck.predict import process
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.process import VARIABLE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, in which no test may leave one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@both_ways
def test_the_answer_comes_back_and_nothing_is_left(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, way)
    here = os.getpid()

    def do(journal: Journal) -> str:
        Path(tempfile.mkdtemp(), "left.txt").write_text("left")
        return str(os.getpid() != here)

    assert run(do) == "True"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _loops(journal: Journal) -> str:
    journal.note("a loop")
    while True:
        pass


def _hangs_in_c(journal: Journal) -> str:
    journal.note("a loop")
    # Holds the interpreter's lock, so that no thread and no handler of a signal could run.
    ctypes.PyDLL(None).pause()
    return "woken"


@pytest.mark.parametrize("do", [_loops, _hangs_in_c])
def test_what_takes_too_long_is_ended(do: Any) -> None:
    began = time.monotonic()
    with pytest.raises(PredictionError, match=r"took longer than 0\.3 s, and was ended in a loop\n.*time_limit_s"):
        run(do, time_s=0.3)
    assert time.monotonic() - began < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _starts(path: Path) -> None:
    """A process that goes on for long, as a data loader's would."""
    path.write_text(str(subprocess.Popen(["sleep", "300"]).pid))


@pytest.mark.parametrize("ending", ["answers", "aborts", "takes too long"])
def test_what_the_process_started_ends_with_it(ending: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def do(journal: Journal) -> str:
        _starts(note)
        if ending == "aborts":
            os.abort()
        return "answered" if ending == "answers" else _loops(journal)

    if ending == "answers":
        assert run(do) == "answered"
    else:
        with pytest.raises(PredictionError):
            run(do, time_s=1)
    assert ends_within(5, int(note.read_text()))


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_process_and_leaves_nothing(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def do(journal: Journal) -> str:
        # Not while the parent is still forking: what is raised in Python's hooks for that is lost.
        time.sleep(0.2)
        note.write_text(str(os.getpid()))
        Path(tempfile.mkdtemp(), "left.txt").write_text("left")
        return _loops(journal)

    threading.Thread(target=lambda: (written(note), _thread.interrupt_main())).start()
    with pytest.raises(KeyboardInterrupt):
        run(do, time_s=20)
    assert ends_within(5, int(note.read_text()))


def test_the_process_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, temporary: Path) -> None:
    note = tmp_path / "pid"

    def do(journal: Journal) -> str:
        note.write_text(str(os.getpid()))
        return _hangs_in_c(journal)

    parent = os.fork()
    if not parent:
        tempfile.tempdir = str(tmp_path)
        try:
            run(do)
        finally:
            os._exit(1)
    child = int(written(note))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert ends_within(5, child)


def test_without_its_parent_the_process_ends_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ftcheck.predict.limits.GRACE_S", -59.5)
    with pytest.raises(PredictionError, match=r"died \(SIGALRM\)"):
        run(_hangs_in_c, time_s=60)


def test_a_parent_that_ignores_its_children_is_answered() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(lambda journal: "done") == "done"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_system_without_room_for_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(PredictionError, match=r"^the prediction's process cannot be started: BlockingIOError"):
        run(lambda journal: "done")


def test_two_threads_ask_at_once() -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(run(lambda journal: "done"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["done", "done"]


def test_the_way_is_a_fork_unless_there_is_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert process.way() == "fork"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert process.way() == "fresh"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert process.way() == "fresh"


def test_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "thread")
    with pytest.raises(RecipeError, match=r"^FTCHECK_PREDICT_PROCESS is 'thread'; allowed: fork, fresh$"):
        process.way()
    monkeypatch.delattr(os, "fork")
    monkeypatch.setenv(VARIABLE, "fork")
    with pytest.raises(RecipeError, match=r"allowed: fresh$"):
        process.way()


# What Windows does not have, taken away before the package is imported.
WITHOUT = """
import os, signal, subprocess, sys
sys.modules["resource"] = None
for module, names in ((os, ("fork", "killpg", "setsid")), (signal, ("setitimer", "SIGALRM"))):
    for name in names:
        delattr(module, name)
from errands import run
print(run(lambda journal: "done without"))
"""


def test_where_there_is_no_fork_a_fresh_interpreter_answers() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, VARIABLE: "fresh"}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "done without\n", done.stderr
