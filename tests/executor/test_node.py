"""What a node does, without Ray: the function is an ordinary one."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import a_run

from pytest_ftcheck import Recipe, Run, execution
from pytest_ftcheck.errors import ExecutorError, TrainingError
from pytest_ftcheck.executor.checkout import Checkout
from pytest_ftcheck.executor.node import carry_out
from pytest_ftcheck.executor.outcome import Outcome
from pytest_ftcheck.executor.task import Task, present_versions
from pytest_ftcheck.predict.parcel import packed
from pytest_ftcheck.runner import Request
from pytest_ftcheck.store import RunStore

TRAINED: list[int] = []
Send = Callable[..., Outcome]


def no_model() -> object:
    raise AssertionError("nothing here builds a model")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that are moments."""

    def execute(recipe: Recipe, method: str, seed: int, steps: int, device: str, unfinished: object) -> Run:
        TRAINED.append(seed)
        if recipe.name == "broken":
            raise TrainingError("full: broken")
        Path("data.txt").read_text()
        return a_run(method, seed=seed)

    TRAINED.clear()
    monkeypatch.setattr(execution, "execute", execute)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    copy = tmp_path / "_ray_pkg_1"
    copy.mkdir()
    (copy / "data.txt").write_text("some data")
    monkeypatch.chdir(copy)
    checkout = Checkout("/repo", "/repo", ())
    cache = str(tmp_path / "cache")
    return Task("a run", "ticket", "key", 1, 1, False, None, False, cache, None, checkout, present_versions())


@pytest.fixture
def send() -> Send:
    def sent(task: Task, name: str = "sound") -> Outcome:
        recipe = Recipe(model=no_model, train_data=[{}], name=name, steps=3)  # type: ignore[arg-type]
        node, outcome = carry_out(task, packed(Request(recipe, "full", 5, 3, "cpu")))
        assert node == platform.node()
        return Outcome.from_json(outcome)

    return sent


def test_it_trains_and_tells_the_data_files_by_the_names_that_they_have_in_the_session(task: Task, send: Send) -> None:
    run, reads, stored = send(task).trained()
    assert run == a_run("full", seed=5)
    assert list(reads or {}) == ["/repo/data.txt"]
    assert not stored, "the folder of the cache is not there, so it is not shared"


def test_what_is_kept_in_a_shared_folder_has_the_names_of_the_session_too(
    task: Task, send: Send, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "runs").mkdir(parents=True)
    assert send(task).trained().stored
    assert "/repo/data.txt" in (tmp_path / "cache" / "runs" / "key.json").read_text()


def test_a_second_try_does_not_train_what_the_first_has_kept(task: Task, send: Send, tmp_path: Path) -> None:
    RunStore(tmp_path / "cache" / "runs").write("key", a_run("full", seed=5), {})
    assert send(task).trained() == (a_run("full", seed=5), None, True)
    assert TRAINED == []


def test_a_run_that_is_to_be_trained_anew_is(task: Task, send: Send, tmp_path: Path) -> None:
    RunStore(tmp_path / "cache" / "runs").write("key", a_run("full", seed=5), {})
    send(dataclasses.replace(task, key="")).trained()
    assert TRAINED == [5]


def test_an_error_of_the_training_is_the_outcome(task: Task, send: Send) -> None:
    with pytest.raises(TrainingError, match=r"^full: broken$"):
        send(task, "broken").trained()


def test_a_node_with_other_packages_trains_nothing(task: Task, send: Send) -> None:
    other = dataclasses.replace(task, versions={**task.versions, "python": "3.9.1"})
    with pytest.raises(ExecutorError, match=rf"has python {platform.python_version()} \(session: 3\.9\.1\)\n"):
        send(other).trained()
    assert TRAINED == []


def test_a_request_that_cannot_be_rebuilt_says_why(task: Task) -> None:
    _, outcome = carry_out(task, b"cnosuch_module\nf\n.")
    with pytest.raises(Exception, match="the recipe cannot be rebuilt in a fresh interpreter: ModuleNotFoundError"):
        Outcome.from_json(outcome).trained()
