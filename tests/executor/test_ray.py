"""Sessions with a real Ray cluster of two nodes on this machine: ``tox run -e ray``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from executor.projects import NODE, PATIENCE_S, Project
from recipes import tiny_recipe

from pytest_ftcheck.runner import Request, Runner

pytest.importorskip("ray", reason="ray is not installed: pip install 'pytest-ftcheck[ray]', or tox run -e ray")

TESTS = """
import random
import pytest

def losses(method, seed):
    drawn = random.Random(f"some data {method} {seed}")
    return [drawn.random() for _ in range(3)]

@pytest.mark.gpu
def test_pair(ft_pair):
    assert [list(run.loss.train) for run in ft_pair.fulls] == [losses("full", 0), losses("full", 1)]

@pytest.mark.gpu
@pytest.mark.parametrize("number", range(12))
def test_it(ft_run, number):
    method, seed = ("full", "lora")[number % 2], number // 2 % 2
    assert list(ft_run(method, seed=seed).loss.train) == losses(method, seed)
"""
FOUR_ONCE = Counter(["full-0", "full-1", "lora-0", "lora-1"])


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.05)


def test_thirteen_tests_train_their_four_runs_once_and_on_both_nodes(project: Project) -> None:
    """And the same tests, without Ray, believe what is kept: it is the same run, with the same data."""
    (project.root / "test_it.py").write_text(TESTS)
    # Both nodes are up when the first run ends.
    release = project.hold("full-0")
    session = project.start()
    until(lambda: len({note["node"] for note in project.notes("started")}) == 2, "both nodes train")
    release()
    output = session.communicate(timeout=PATIENCE_S)[0]
    assert "13 passed" in output
    assert project.counts("started") == project.counts("finished") == FOUR_ONCE
    started = project.notes("started")
    assert {note["gpus"] for note in started} == {"0"}, "each node has one GPU to give out"
    assert all("_ray_pkg_" in note["folder"] for note in started), "the code comes from Ray's copy of the project"
    stored = [json.loads(path.read_text())["reads"] for path in (project.root / "cache" / "runs").glob("*.json")]
    assert len(stored) == 4
    assert {path for reads in stored for path in reads} >= {str(project.root / "data.txt")}
    assert not [path for reads in stored for path in reads if "_ray_pkg_" in path]
    assert "13 passed" in project.session(executor="local")
    assert project.counts("started") == FOUR_ONCE


DYING = """
import os, pathlib, signal, threading, time

def die():
    pathlib.Path("dies").touch()
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.fixture(autouse=True)
def _asks_and_dies(request):
    number = request.node.callspec.params["number"]
    if number == 1:
        threading.Timer(1.0, die).start()
    while number in (5, 9) and not os.path.exists("dies"):
        time.sleep(0.05)
"""


def test_workers_wait_for_what_the_controller_submits_though_one_dies_waiting(project: Project) -> None:
    """Another one that needs the same run gets it: it is not trained again, and one test fails."""
    (project.root / "test_it.py").write_text(TESTS + DYING)
    release = project.hold("lora-0")
    session = project.start("-n", "2", "-k", "not test_pair")
    until((project.root / "dies").exists, "a worker dies waiting")
    until(lambda: project.counts("started")["lora-0"], "the run that it waits for is under way")
    # In this time the other worker finds the lock of the dead one free, and asks for the same run.
    time.sleep(1.0)
    release()
    output = session.communicate(timeout=PATIENCE_S)[0]
    assert "crashed while running" in output
    assert "1 failed, 11 passed" in output
    assert project.counts("started") == project.counts("finished") == FOUR_ONCE


def test_a_run_whose_node_dies_in_the_middle_is_trained_on_the_other_one(project: Project, cluster: Any) -> None:
    """Each node has a run in hand; the one that is lost goes to the other node, when that has room."""
    (project.root / "test_it.py").write_text(TESTS)
    started, nodes = cluster
    releases = [project.hold(run) for run in FOUR_ONCE]
    session = project.start("-k", "test_pair", cache=f"local://{project.root / 'shared'}")
    until(lambda: len(project.notes("started")) == 2, "both nodes train")
    dying = nodes.pop()
    (lost,) = [note for note in project.notes("started") if note["node"] == dying.node_id]
    started.remove_node(dying, allow_graceful=False)
    # With a machine its processes die; here the one that trains would go on for a moment.
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(lost["process"]), signal.SIGKILL)
    for release in releases:
        release()
    output = session.communicate(timeout=PATIENCE_S)[0]
    nodes.append(started.add_node(**NODE))
    assert "1 passed" in output
    again = f"ftcheck: submitted again: sound, {lost['run'].replace('-', ', seed ')}: NodeDiedError: "
    assert output.count("submitted again") == output.count(again) == 1
    assert project.counts("started") == FOUR_ONCE + Counter([lost["run"]])
    assert project.counts("finished") == FOUR_ONCE
    assert {note["node"] for note in project.notes("finished")}.isdisjoint({dying.node_id})
    assert len(list((project.root / "shared" / "runs").glob("*.json"))) == 4, "kept at a URL of fsspec"


FAILURES = {
    "raises": "TrainingError: full: train(job) raised IndexError: row 7 of 6 after 2 of 3 updates",
    "sleeps": "TimeLimitError: full: the run of 3 updates took longer than 4 s",
    "hangs": "TimeLimitError: hangs, full, seed 0: the run took longer than 4 s on * not come back from native code",
    "large": "ExecutorError: large, full, seed 0 needs 7 GPU(s) and 1 CPU(s) on one node; the nodes of the Ray cluster "
    "have * 1 GPU(s) and 1 CPU(s)",
}


def test_what_goes_wrong_on_a_node_is_told_in_one_line(project: Project) -> None:
    with (project.root / "conftest.py").open("a") as conftest:
        conftest.write("\nfrom pytest_ftcheck.executor import cluster\ncluster.GRACE_S = 1.0\n")
    for name in FAILURES:
        (project.root / f"test_{name}.py").write_text(f"RECIPE = {name!r}\ndef test_it(ft_run):\n    ft_run('full')\n")
    output = project.session("--ftcheck-time-limit=4")
    assert "4 failed" in output
    lines = pytest.LineMatcher(output.splitlines())
    for told in FAILURES.values():
        lines.fnmatch_lines_random(f"E  *{told}*")
    assert project.counts("started")["full-0"] == 3, "each begins once, and the large one never"
    lines.fnmatch_lines_random(f'*File "{project.root}/quick.py", line *, in loop')
    lines.fnmatch_lines_random(['*raise IndexError("row 7 of 6")', "*IndexError: row 7 of 6"])


REAL = """
import pytest
from recipes import tiny_recipe
from pytest_ftcheck.executor import remote

remote.gpus_of = lambda request: 1

@pytest.fixture(scope="session")
def ft_recipe():
    return tiny_recipe()
"""


def test_a_real_training_has_the_losses_that_it_has_without_ray(project: Project) -> None:
    (project.root / "conftest.py").write_text(REAL)
    (project.root / "test_it.py").write_text("def test_it(ft_lora):\n    print('LOSSES', ft_lora.loss.train)\n")
    here = Runner().run(Request(tiny_recipe(), "lora", 0, 6, "cpu"))
    assert f"LOSSES {here.loss.train}" in project.session("-s")
