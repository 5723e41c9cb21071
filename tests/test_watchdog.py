from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from casualties import HANGS

from pytest_ftcheck.watchdog import SIGNAL

pytestmark = pytest.mark.skipif(SIGNAL is None, reason="a system without real-time signals has no hard limit")

START = """
    import ctypes, os, tempfile, time
    from pathlib import Path
    from pytest_ftcheck import watchdog as module
    from pytest_ftcheck.scratch import prefix
    from pytest_ftcheck.watchdog import Watchdog, install, watched

    watchdog = Watchdog(lambda: os.dup(2))
    install(watchdog)
    folder = tempfile.mkdtemp(prefix=prefix())
    (Path(folder) / "checkpoint").touch()

    def watchers():
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
"""


def process(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    """A Python with a watchdog, which carries out ``body``; its temporary files are in ``tmp_path``."""
    script = textwrap.dedent(HANGS) + textwrap.dedent(START) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("library", ["PyDLL", "CDLL"])
def test_what_hangs_in_native_code_is_ended_told_with_its_stack_and_cleared_up_after(
    tmp_path: Path, library: str
) -> None:
    hung = process(tmp_path, f"with watched(0.2, 0.1, 'the training'): hang(ctypes.{library})")
    _, errors = hung.communicate(timeout=60)
    assert hung.returncode == -signal.SIGKILL
    assert "ftcheck: the training took longer than 0.2 s, and after 0.1 s more had not come back" in errors
    assert "in hang\n" in errors
    assert list(tmp_path.iterdir()) == []


def test_what_ends_in_time_is_left_alone_and_the_watcher_goes_with_it(tmp_path: Path) -> None:
    body = """
    with watched(60, 1, "one"): ...
    with watched(0.1, 0.1, "two"): ...
    time.sleep(0.5)
    before = watchers()
    module.remove(watchdog)
    print(len(before), len(watchers()))
    """
    output, errors = process(tmp_path, body).communicate(timeout=60)
    assert (output, errors) == ("1 0\n", "")


def test_a_person_who_debugs_is_not_hurried(tmp_path: Path) -> None:
    body = """
    with watched(0.1, 0.1, "the training"):
        watchdog.rest()
        time.sleep(0.6)
    print("went on")
    """
    assert process(tmp_path, body).communicate(timeout=60)[0] == "went on\n"


def test_where_somebody_has_killed_the_watcher_there_is_no_limit_and_no_error(tmp_path: Path) -> None:
    body = """
    with watched(60, 1, "one"): ...
    for pid in watchers():
        os.kill(int(pid), 9)
        os.waitpid(int(pid), 0)
    with watched(0.1, 0.1, "two"): time.sleep(0.3)
    print("went on")
    """
    output, errors = process(tmp_path, body).communicate(timeout=60)
    assert (output, errors) == ("went on\n", "")


def test_after_a_process_that_was_killed_the_watcher_clears_up_and_ends(tmp_path: Path) -> None:
    killed = process(tmp_path, "with watched(60, 1, 'one'): print(*watchers(), flush=True); time.sleep(60)")
    assert killed.stdout is not None
    watcher = int(killed.stdout.readline())
    assert len(list(tmp_path.iterdir())) == 2
    killed.kill()
    killed.communicate()
    end = time.monotonic() + 60
    while list(tmp_path.iterdir()) or Path(f"/proc/{watcher}/cmdline").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_without_a_session_of_pytest_nothing_is_ended(tmp_path: Path) -> None:
    body = "module.remove(watchdog)\nwith watched(0.1, 0.1, 'the training'): time.sleep(0.4)\nprint('went on')"
    assert process(tmp_path, body).communicate(timeout=60)[0] == "went on\n"
