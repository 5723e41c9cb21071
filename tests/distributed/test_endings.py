"""A rank that dies, raises, leaves or hangs ends the run with its log, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import dying
import pytest
import torch
from recipes import tiny_recipe

from pytest_ftcheck import Job
from pytest_ftcheck.distributed.run import train_distributed
from pytest_ftcheck.errors import TrainingError


def failure(train: Callable[[Job], None], limit_s: float = 60.0) -> str:
    recipe = tiny_recipe(train=train, processes=2, strategy="ddp", steps=2)
    with pytest.raises(TrainingError) as caught:
        train_distributed(recipe, "lora", limit_s=limit_s)
    return str(caught.value)


def of_this_test(process: Path) -> bool:
    """Whether a process runs code of this folder, or is one that a rank started."""
    try:
        command = (process / "cmdline").read_bytes()
        return b"sleep\x00987" in command or (int((process / "stat").read_text().split()[3]) == os.getpid())
    except (OSError, IndexError, ValueError):
        return False


def left_behind() -> set[str]:
    return {one.name for one in Path("/proc").iterdir() if one.name.isdigit() and of_this_test(one)}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> object:
    before = left_behind()
    yield
    assert not left_behind() - before


def test_a_killed_rank_ends_the_run_with_its_signal_its_update_and_what_it_printed() -> None:
    text = failure(dying.killed)
    assert text.startswith("lora: rank 1 of 2: died (SIGKILL) in or after update 1\n")
    assert "\n  rank 1 | rank 1 is here" in text
    assert "\n  rank 0: " in text
    assert "ran out of memory, or somebody ended the process" in text


def test_a_rank_that_raises_is_told_with_its_place_and_traceback_and_not_the_rank_that_missed_it() -> None:
    text = failure(dying.raising)
    first = text.splitlines()[0]
    assert first.startswith("lora: rank 1 of 2: train(job) raised ValueError: no such shard after 0 of 2 updates")
    assert f"\n  at {dying.__file__}:" in text
    assert '\n  rank 1 |     raise ValueError("no such shard")' in text


def test_a_rank_that_calls_sys_exit_is_told_with_its_status() -> None:
    assert failure(dying.exiting).startswith(
        "lora: rank 1 of 2: train(job) called sys.exit(3) after 0 updates\n  rank 0: "
    )


def test_a_rank_that_leaves_with_status_zero_is_not_taken_for_one_that_trained() -> None:
    text = failure(dying.leaving)
    assert text.startswith("lora: rank 1 of 2: ")
    assert "without a word, in or after update 1" in text.splitlines()[0]


def test_ranks_that_hang_are_ended_at_the_limit_with_where_each_is_and_what_it_printed() -> None:
    start = time.monotonic()
    text = failure(dying.waiting, limit_s=4.0)
    assert time.monotonic() - start < 30
    assert text.startswith("lora: 2 of 2 ranks had not ended after 4 s, and were ended\n")
    lines = Path(dying.__file__).read_text(encoding="utf-8").splitlines()
    sleep = 1 + next(i for i, line in enumerate(lines) if "time.sleep(1000)" in line)
    barrier = 1 + next(i for i, line in enumerate(lines) if "dist.barrier()" in line)
    assert f"\n  at {dying.__file__}:{sleep} in waiting\n  rank 1 | rank 1 is here" in text
    assert f"\n  at {dying.__file__}:{barrier} in waiting\n  rank 0 | rank 0 is here" in text
    assert "--ftcheck-time-limit" in text


def test_what_a_rank_started_itself_is_ended_with_it() -> None:
    failure(dying.starting_others, limit_s=4.0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a process that its parent was killed")
def test_when_the_session_is_killed_its_ranks_end_too() -> None:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; the copy takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        session = os.fork()
    if not session:
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)
            failure(dying.starting_others)
        os._exit(0)
    try:
        assert _within(50, lambda: len(_ranks_of(session)) == 2)
        ranks = _ranks_of(session)
    finally:
        os.kill(session, signal.SIGKILL)
        os.waitpid(session, 0)
    assert _within(10, lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))
    # Those are not ranks, and nobody told them.
    for sleeping in left_behind():
        os.kill(int(sleeping), signal.SIGKILL)


def _ranks_of(session: int) -> list[int]:
    """The processes of the ranks: grandchildren of the session."""
    return [rank for agent in _children(session) for rank in _children(agent) if _is_python(rank)]


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except OSError:
        return []


def _is_python(pid: int) -> bool:
    # A rank is one that has come as far as the user's loop.
    return bool(_children(pid))


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
