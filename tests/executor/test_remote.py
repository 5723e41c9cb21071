from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import a_run
from recipes import tiny_recipe

from pytest_ftcheck.errors import ExecutorError
from pytest_ftcheck.executor.outcome import Outcome
from pytest_ftcheck.executor.remote import Remote, Resources
from pytest_ftcheck.executor.task import Task
from pytest_ftcheck.options import Settings
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore

TASKS: list[Task] = []


def carry_out(task: Task, parcel: bytes) -> Outcome:
    TASKS.append(task)
    return Outcome("a node", a_run("full"), {})


@pytest.fixture(autouse=True)
def _forget() -> None:
    TASKS.clear()


def remote(gpus: int = 1, **settings: Any) -> Remote:
    return Remote(carry_out, Resources(gpus, ()), Settings(**settings), Path.cwd())


def request(device: str = "cpu", gpus: int = 1, **changes: Any) -> Request:
    return Request(tiny_recipe(**changes), "full", 0, 4, device, gpus)


@pytest.mark.parametrize(
    ("gpus", "settings", "device"),
    [
        (0, {}, "cpu"),
        (1, {}, "cuda:0"),
        (1, {"device": "cpu"}, "cpu"),
        # What is asked for and not there is an error of the run, and not another device.
        (0, {"device": "cuda"}, "cuda:0"),
        (0, {"require_gpu": True}, "cuda:0"),
    ],
)
def test_the_device_is_that_of_the_nodes(gpus: int, settings: dict[str, Any], device: str) -> None:
    assert remote(gpus, **settings).device() == device


def test_a_run_needs_the_gpus_of_the_test_that_asks_and_none_on_the_cpu() -> None:
    for asked in (request("cuda:0"), request("cuda:0", gpus=2), request("cpu", gpus=2)):
        remote().prepared(asked, "key")()
    assert [(task.gpus, task.own_process) for task in TASKS] == [(1, True), (2, True), (0, False)]


def test_a_test_that_needs_more_gpus_than_a_node_has_is_told_so() -> None:
    assert remote(2).lacks(2) is None
    assert remote(2).lacks(3) == "needs 3 GPU(s) on one node, and the nodes of the cluster have 2"


def test_a_run_has_as_many_cpus_as_threads_and_the_key_that_it_has_without_ray() -> None:
    assert remote().key(request(threads=2)) == request(threads=2).key()
    for threads in (2, None):
        remote().prepared(request(threads=threads), "key")()
    assert [task.cpus for task in TASKS] == [2, 1]


def test_a_run_without_a_key_is_another_one_each_time() -> None:
    for _ in range(2):
        remote().prepared(request(), None)()
    assert [task.key for task in TASKS] == ["", ""]
    assert TASKS[0].ticket != TASKS[1].ticket


def test_nodes_are_told_of_a_cache_by_a_name_that_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    for settings in ({"cache_dir": "cache"}, {"cache_dir": "memory://ci"}, {"cache_dir": "cache", "no_cache": True}):
        remote(**settings).prepared(request(), "key")()
    assert [task.cache_dir for task in TASKS] == [str(Path.cwd() / "cache"), "memory://ci", ""]


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(ExecutorError, match=r"^Recipe.train_data \(list\)"):
        remote().prepared(request(train_data=[file]), "key")


def test_all_runs_are_submitted_before_one_is_waited_for(tmp_path: Path) -> None:
    """With one after the other, this would wait for ever."""
    import threading

    together = threading.Barrier(2, timeout=30)

    def both(task: Task, parcel: bytes) -> Outcome:
        together.wait()
        return carry_out(task, parcel)

    executor = Remote(both, Resources(1, ()), Settings(), Path.cwd())
    runner = Runner(RunStore(tmp_path), executor=executor)
    recipe = tiny_recipe()
    runner.runs([Request(recipe, "full", seed, 4, "cpu") for seed in range(2)])
    assert len(TASKS) == 2
    runner.runs([Request(recipe, "full", seed, 4, "cpu") for seed in range(2)])
    assert len(TASKS) == 2


def test_a_stored_run_is_not_submitted(tmp_path: Path) -> None:
    for _ in range(2):
        Runner(RunStore(tmp_path), executor=remote()).run(request(threads=1))
    assert len(TASKS) == 1


def test_an_error_is_raised_to_each_who_asks_and_submitted_once(tmp_path: Path) -> None:
    def failing(task: Task, parcel: bytes) -> Outcome:
        TASKS.append(task)
        return Outcome("a node", error="TrainingError", text="full: broken")

    runner = Runner(RunStore(tmp_path), executor=Remote(failing, Resources(1, ()), Settings(), Path.cwd()))
    asked = request()
    for _ in range(2):
        with pytest.raises(Exception, match=r"^full: broken$"):
            runner.run(asked)
    assert len(TASKS) == 1
