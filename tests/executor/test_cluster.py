"""What is submitted to Ray, and what becomes of what it says, with a Ray of our own that fails as it is told to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_run

from pytest_ftcheck.errors import ExecutorError, TimeLimitError
from pytest_ftcheck.executor import cluster as module
from pytest_ftcheck.executor.checkout import Checkout
from pytest_ftcheck.executor.cluster import RETRIES, Cluster
from pytest_ftcheck.executor.outcome import Outcome
from pytest_ftcheck.executor.task import Task

NAMES = ("NodeDiedError", "LocalRayletDiedError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError")


class RayError(Exception):
    """Ray's base of its errors."""


ERRORS = {name: type(name, (RayError,), {}) for name in NAMES}
DIED = ERRORS["NodeDiedError"](
    "Task failed because the node it was running on is dead. This can happen if it was preempted."
)


class PretendedRay:
    """What the plugin uses of Ray. ``script`` has a list for each submission: what the task gives, an error among it,
    or None for a look at which nothing has come.
    """

    def __init__(self, *script: list[Any], nodes: list[dict[str, float]] | None = None) -> None:
        self._script = list(script)
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[Any] = []
        self.exceptions = SimpleNamespace(RayError=RayError, **ERRORS)
        self._nodes = [{"GPU": 1.0, "CPU": 2.0}] * 2 if nodes is None else nodes
        self.initialized: dict[str, Any] | None = None

    def is_initialized(self) -> bool:
        return self.initialized is not None

    def init(self, **options: Any) -> None:
        self.initialized = options

    def shutdown(self) -> None:
        self.initialized = None

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Resources": {"GPU": 8.0, "CPU": 64.0}, "Alive": False}
        return [dead, *({"Resources": resources, "Alive": True} for resources in self._nodes)]

    def remote(self, *args: Any, **options: Any) -> Any:
        if not args:
            return lambda function: self._function(options)
        return self._function({})

    def _function(self, declared: dict[str, Any]) -> Any:
        def submit(task: Task, parcel: bytes, **options: Any) -> Iterator[Any]:
            self.submitted.append({**declared, **options})
            return iter(self._script.pop(0))

        return SimpleNamespace(
            options=lambda **options: SimpleNamespace(
                remote=lambda task, parcel: Stream(submit(task, parcel, **options))
            )
        )

    def wait(self, streams: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return ([], streams) if streams[0].peek() is None else (streams, [])

    def get(self, given: Any) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    def cancel(self, stream: Any, force: bool) -> None:
        assert force
        self.cancelled.append(stream)


class Stream:
    """Ray's generator of references: what a task gives, one after the other."""

    def __init__(self, given: Iterator[Any]) -> None:
        self._given = given
        self._next: Any = self

    def peek(self) -> Any:
        self._next = next(self._given)
        return self._next

    def __next__(self) -> Any:
        return self._next


TASK = Task("narrow, lora, seed 0", "t", "key", 1, 1, False, None, False, "", None, Checkout("/", "/", ()), {})
OUTCOME = Outcome("b", a_run("lora"), {})
Connect = Callable[..., Cluster]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def connected(ray: PretendedRay) -> Cluster:
        monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
        return Cluster(Path("/repo"), ["/cache"])

    return connected


@pytest.mark.parametrize("name", NAMES)
def test_a_run_whose_node_or_process_dies_is_submitted_again_and_comes_back_once(connect: Connect, name: str) -> None:
    ray = PretendedRay(["a", ERRORS[name]("gone. Much more.")], ["b", OUTCOME.to_json()])
    cluster = connect(ray)
    assert cluster.carry_out(TASK, b"") == OUTCOME
    assert len(ray.submitted) == 2
    assert cluster.losses == [f"narrow, lora, seed 0: {name}: gone"]
    assert cluster.nodes == ["b"]


def test_a_run_that_comes_back_is_submitted_once(connect: Connect) -> None:
    ray = PretendedRay([None, "b", None, OUTCOME.to_json()])
    connect(ray).carry_out(TASK, b"")
    assert ray.submitted == [
        {"num_gpus": 1, "num_cpus": 1, "max_retries": 0, "num_returns": "streaming", "name": f"ftcheck: {TASK.title}"}
    ]


def test_a_run_that_is_lost_each_time_is_told_with_its_likely_cause(connect: Connect) -> None:
    ray = PretendedRay(*([["a", DIED]] * (1 + RETRIES)))
    with pytest.raises(ExecutorError) as caught:
        connect(ray).carry_out(TASK, b"")
    assert str(caught.value).splitlines() == [
        "narrow, lora, seed 0 was lost 4 times with its process or node; the last time: NodeDiedError: Task "
        "failed because the node it was running on is dead",
        "  likely cause: the node runs out of memory, or the training ends its process (a crash in native code)",
    ]


def test_an_error_of_the_cluster_is_told_and_not_retried(connect: Connect) -> None:
    ray = PretendedRay([RayError("Failed to set up runtime environment. Details.")])
    with pytest.raises(
        ExecutorError, match=r"^narrow, lora, seed 0: the cluster could not carry it out: RayError: Fail"
    ):
        connect(ray).carry_out(TASK, b"")


@pytest.mark.parametrize(
    ("nodes", "there"),
    [
        ([{"CPU": 4.0}, {"GPU": 0.5, "CPU": 4.0}], "0 GPU(s) and 4 CPU(s), 0.5 GPU(s) and 4 CPU(s)"),
        ([{"GPU": 1.0}], "1 GPU(s) and 0 CPU(s)"),
        ([], "nothing: none is alive"),
    ],
)
def test_a_run_that_no_node_can_take_does_not_wait(connect: Connect, nodes: Any, there: str) -> None:
    ray = PretendedRay([None], nodes=nodes)
    with pytest.raises(ExecutorError) as caught:
        connect(ray).carry_out(TASK, b"")
    needs = "narrow, lora, seed 0 needs 1 GPU(s) and 1 CPU(s) on one node; the nodes of the Ray cluster have "
    assert str(caught.value) == needs + there
    assert len(ray.cancelled) == 1


def test_a_run_whose_node_has_died_waits_a_while_for_another_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = PretendedRay(["a", DIED], [None, None, "b", OUTCOME.to_json()], nodes=[])
    assert connect(ray).carry_out(TASK, b"") == OUTCOME
    monkeypatch.setattr(module, "NODES_S", 0.0)
    with pytest.raises(ExecutorError, match="nothing: none is alive"):
        connect(PretendedRay(["a", DIED], [None], nodes=[])).carry_out(TASK, b"")


def test_a_run_that_does_not_come_back_in_time_is_ended_and_not_tried_again(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", -1.0)
    limited = Task.from_json(TASK.to_json().replace('"time_limit_s":null', '"time_limit_s":0.5'))
    ray = PretendedRay(["a", None])
    with pytest.raises(TimeLimitError, match=r"^narrow, lora, seed 0: the run took longer than 0\.5 s on a, and after"):
        connect(ray).carry_out(limited, b"")
    assert len(ray.submitted) == len(ray.cancelled) == 1


def test_the_process_of_a_run_on_a_gpu_ends_with_it(connect: Connect) -> None:
    ray = PretendedRay(["a", OUTCOME.to_json()])
    connect(ray).carry_out(Task.from_json(TASK.to_json().replace('"own_process":false', '"own_process":true')), b"")
    assert ray.submitted[0]["max_calls"] == 1


def test_nodes_get_a_copy_of_the_repository(connect: Connect) -> None:
    ray = PretendedRay()
    connect(ray)
    assert ray.initialized is not None
    assert ray.initialized["address"] == "auto"
    assert ray.initialized["runtime_env"] == {"working_dir": "/repo", "excludes": ["/cache"]}


def test_what_the_nodes_have_is_the_most_of_one_of_them_and_all_kinds(connect: Connect) -> None:
    nodes = [{"GPU": 4.0, "accelerator_type:H100": 1.0}, {"GPU": 2.0, "accelerator_type:A100": 1.0}, {"CPU": 8.0}]
    found = connect(PretendedRay(nodes=nodes)).resources()
    assert (found.gpus, found.gpu_names) == (4, ("A100", "H100"))


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"^needs Ray: pip install 'pytest-ftcheck\[ray\]'$"):
        Cluster(Path("/repo"))


def test_an_address_where_nobody_answers_is_told_at_once(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = PretendedRay()
    cluster = connect(ray)
    cluster.close()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(
        ExecutorError, match=r"^no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1 \(ConnectionRefused"
    ):
        Cluster(Path("/repo"))
    assert ray.initialized is None, "Ray itself would go on for minutes"


@pytest.mark.parametrize("address", ["local", "ray://head:10001"])
def test_an_address_of_what_is_no_cluster_of_this_machine_is_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    connect(PretendedRay()).close()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ExecutorError, match=rf"^RAY_ADDRESS is {address}; allowed: HOST:PORT or auto"):
        Cluster(Path("/repo"))


def test_a_machine_without_a_cluster_is_told_so(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    ray = PretendedRay()
    monkeypatch.setattr(ray, "init", none)
    with pytest.raises(
        ExecutorError, match=r"^no Ray cluster can be reached from this machine, and RAY_ADDRESS is not"
    ):
        connect(ray)


def test_who_has_connected_already_is_told_so(connect: Connect) -> None:
    ray = PretendedRay()
    ray.init()
    with pytest.raises(ExecutorError, match=r"^this process has connected to Ray already"):
        connect(ray)
