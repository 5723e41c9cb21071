"""Twelve tests that need four runs between them, on two workers: each run is trained once, whatever happens.

A training is a moment here that makes a real ``Run``, without torch, so that what takes the time is what is tested:
workers, sessions, and the runs that they share. ``tests/benchmarks/test_sharing_cost.py`` has real trainings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

RUNS, TESTS = 4, 12
CONFTEST = """
import os, random, signal, time
import pytest
from builders import a_run
from pytest_ftcheck import Recipe, execution

def note(line):
    handle = os.open("trained.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\\n".encode())
    os.close(handle)

def dies_once():
    try:
        os.close(os.open("died", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

def execute(recipe, method, seed, steps, device, unfinished=None):
    note(f"started {seed}")
    time.sleep(0.1)
    if os.environ.get("DIES") and seed == 2:
        dies_once()
    time.sleep(0.1)
    drawn = random.Random(seed)
    run = a_run(method, seed=seed, train=[drawn.random() for _ in range(3)])
    note(f"finished {seed}")
    return run

execution.execute = execute

def no_model():
    raise AssertionError("nothing here builds a model")

@pytest.fixture(scope="session")
def ft_recipe():
    rows = map(dict, []) if os.environ.get("UNKNOWN") else [{}]
    return Recipe(model=no_model, train_data=lambda: rows, name="a recipe", steps=3)
"""
TEST = """
import random
import pytest

@pytest.mark.parametrize("number", range(12))
def test_it(ft_run, number):
    drawn = random.Random(number % 4)
    assert list(ft_run("full", seed=number % 4).loss.train) == [drawn.random() for _ in range(3)]
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TEST)
    return pytester


def session(project: pytest.Pytester, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "-p", "pytest_ftcheck.plugin"]
    return subprocess.Popen(
        [sys.executable, *command, "--ftcheck-device=cpu", "--ftcheck-cache-dir=cache", *arguments],
        cwd=project.path,
        # Other plugins take longer to load than these tests take.
        env=os.environ | variables | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def noted(project: pytest.Pytester) -> dict[str, Counter[str]]:
    """How often the training of each seed was started, and finished."""
    found: dict[str, Counter[str]] = {"started": Counter(), "finished": Counter()}
    for line in (project.path / "trained.log").read_text().splitlines():
        what, seed = line.split()
        found[what][seed] += 1
    return found


EACH_ONCE = Counter(str(seed) for seed in range(RUNS))


def test_twelve_tests_on_two_workers_train_each_of_their_four_runs_once(project: pytest.Pytester) -> None:
    output, _ = session(project, "-n", "2").communicate(timeout=120)
    assert f"{TESTS} passed" in output
    assert noted(project) == {"started": EACH_ONCE, "finished": EACH_ONCE}


NOT_SHARED = f"ftcheck: {RUNS} runs are not shared between workers and sessions; what cannot be told: train_data, "


def test_runs_whose_content_cannot_be_told_are_trained_by_each_worker_and_the_summary_says_so(
    project: pytest.Pytester,
) -> None:
    output, _ = session(project, "-n", "2", "--dist=each", UNKNOWN="1").communicate(timeout=120)
    assert f"{2 * TESTS} passed" in output
    assert noted(project)["finished"] == EACH_ONCE + EACH_ONCE
    assert output.count(NOT_SHARED) == 1


@pytest.mark.parametrize("arguments", [("--ftcheck-no-cache",), ()], ids=["nothing is kept", "all is known"])
def test_where_there_is_nobody_to_share_with_or_all_is_known_the_summary_is_silent(
    project: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    unknown = {"UNKNOWN": "1"} if arguments else {}
    output, _ = session(project, *arguments, **unknown).communicate(timeout=120)
    assert f"{TESTS} passed" in output
    assert "not shared" not in output


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no signal that kills without warning")
def test_two_sessions_at_once_train_each_run_once_though_a_worker_is_killed_in_one_of_them(
    project: pytest.Pytester,
) -> None:
    """It dies in the middle of a training, which another one takes up: its test fails, and no other does."""
    both = [session(project, "-n", "2", DIES="1") for _ in range(2)]
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert sorted("crashed while running" in output for output in outputs) == [False, True]
    for output in outputs:
        crashed = "crashed while running" in output
        assert ("1 failed, 11 passed" if crashed else f"{TESTS} passed") in output
    found = noted(project)
    assert found["finished"] == EACH_ONCE
    assert found["started"] == EACH_ONCE + Counter("2")
