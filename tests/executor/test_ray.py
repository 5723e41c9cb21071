"""A Ray cluster of two nodes on this machine, each with a GPU that it only claims to have.

Starting it takes seconds, and each of its processes imports torch: ``tox run -e ray``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_ftcheck.executor import cluster as our_cluster
from pytest_ftcheck.executor import dispatcher, elsewhere, joining
from pytest_ftcheck.store import RunStore

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80 * 2**20}
CONFTEST = """
import os, time
import pytest
from recipes import tiny_recipe
from pytest_ftcheck.training import train

def note(what, job):
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    line = f"{what} {type(job.method).__name__}-{job.seed} {os.getpid()} {devices} {os.environ.get('RAY_NODE_ID', '-')}"
    handle = os.open(os.path.join(FOLDER, "trained.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\\n".encode())
    os.close(handle)

FOLDER = os.path.dirname(__file__)

def noting(job):
    if job.steps == 2:  # the pass in which memory is measured
        return train(job)
    note("started", job)
    end = time.monotonic() + 120
    while os.path.exists(os.path.join(FOLDER, "hold")) and time.monotonic() < end:
        time.sleep(0.05)
    train(job)
    note("finished", job)

@pytest.fixture(scope="session")
def ft_recipe():
    return tiny_recipe(train=noting)
"""
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(12))
def test_it(ft_run, number):
    run = ft_run(("full", "lora")[number % 2], seed=number // 2 % 2)
    assert run.seed == number // 2 % 2
    assert run.steps == 6
"""
FOUR_ONCE = Counter(f"{method}-{seed}" for method in ("Full", "LoRA") for seed in range(2))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_DEDUP_LOGS", "0")
        started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        started.second = started.add_node(**NODE)
        yield started
        started.shutdown()


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cluster: Any) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setattr(elsewhere, "gpus_of", lambda request: 1)
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    return pytester


def session(project: pytest.Pytester, *arguments: str, cache: str = "cache") -> pytest.RunResult:
    options = ("--ftcheck-executor=ray", "--ftcheck-device=cpu", f"--ftcheck-cache-dir={cache}")
    return project.runpytest_inprocess("-p", "no:cacheprovider", *options, *arguments)


def noted(project: pytest.Pytester, what: str) -> list[list[str]]:
    log = project.path / "trained.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split() for line in lines if line.startswith(what)]


def runs(project: pytest.Pytester, what: str) -> Counter[str]:
    return Counter(words[1] for words in noted(project, what))


def test_the_same_tests_train_each_run_once_on_both_nodes(project: pytest.Pytester) -> None:
    session(project, "-p", "no:xdist").assert_outcomes(passed=12)
    assert runs(project, "started") == runs(project, "finished") == FOUR_ONCE
    assert os.getpid() not in {int(words[2]) for words in noted(project, "started")}
    assert {words[3] for words in noted(project, "started")} == {"0"}, "Ray has not given out its GPUs"
