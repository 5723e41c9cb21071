from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from recipes import tiny_recipe

from pytest_ftcheck import Job, Recipe, Run
from pytest_ftcheck.errors import TrainingError
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore
from pytest_ftcheck.training import train

TRAINED: list[str] = []


def counting(job: Job) -> None:
    TRAINED.append(f"{type(job.method).__name__} {job.seed} {job.steps}")
    train(job)


def broken(job: Job) -> None:
    raise ValueError("broken")


def raising(job: Job) -> None:
    TRAINED.append("raising")
    raise ValueError("broken")


@pytest.fixture(autouse=True)
def _forget() -> None:
    TRAINED.clear()


def request(recipe: Recipe, method: str = "full", seed: int = 0, steps: int = 4) -> Request:
    return Request(recipe, method, seed, steps, "cpu")


def of_the_horizon(steps: int = 4) -> list[str]:
    """The trainings so far, without the short ones in which memory is measured."""
    return [line for line in TRAINED if line.endswith(f" {steps}")]


def test_what_was_trained_once_is_not_trained_again() -> None:
    recipe, runner = tiny_recipe(train=counting), Runner()
    assert runner.run(request(recipe)) is runner.run(request(recipe))
    assert of_the_horizon() == ["Full 0 4"]


def test_each_seed_method_and_horizon_is_a_run_of_its_own() -> None:
    recipe, runner = tiny_recipe(train=counting), Runner()
    for wanted in (request(recipe), request(recipe, seed=1), request(recipe, "lora"), request(recipe, steps=3)):
        runner.run(wanted)
    assert of_the_horizon(4) == ["Full 0 4", "Full 1 4", "LoRA 0 4"]
    assert of_the_horizon(3) == ["Full 0 3"]


def test_a_later_session_takes_the_stored_run(tmp_path: Path) -> None:
    recipe = tiny_recipe(train=counting)
    first = Runner(RunStore(tmp_path)).run(request(recipe))
    second = Runner(RunStore(tmp_path)).run(request(tiny_recipe(train=counting)))
    assert first == second
    assert of_the_horizon() == ["Full 0 4"]


def test_a_recipe_that_differs_in_what_counts_trains_anew(tmp_path: Path) -> None:
    for changes in ({}, {"batch_size": 2}, {"eval_steps": (2,)}, {"dtype": "float64"}):
        Runner(RunStore(tmp_path)).run(request(tiny_recipe(train=counting, **changes)))
    assert len(of_the_horizon()) == 4


def test_recipes_that_differ_in_the_other_method_share_a_run(tmp_path: Path) -> None:
    for rank in (2, 4):
        changes: dict[str, Any] = {"lora": tiny_recipe().lora.__class__(r=rank, target_modules=["c_attn"])}
        Runner(RunStore(tmp_path)).run(request(tiny_recipe(train=counting, **changes)))
    assert of_the_horizon() == ["Full 0 4"]


def test_a_recipe_of_unknown_content_is_trained_and_not_stored(tmp_path: Path) -> None:
    class Opaque:
        __slots__ = ("rows",)

        def __init__(self) -> None:
            self.rows = tiny_recipe().train_data

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> Any:
            return self.rows[index]

    recipe = tiny_recipe(train=counting, train_data=Opaque())
    assert request(recipe).key() is None
    runner = Runner(RunStore(tmp_path))
    assert runner.run(request(recipe)) is runner.run(request(recipe))
    assert list(tmp_path.iterdir()) == []
    assert of_the_horizon() == ["Full 0 4"]


def test_a_run_that_cannot_be_shared_is_told_once_with_the_part_that_is_unknown(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    runner = Runner(RunStore(tmp_path), unshared=lambda title, why: told.append((title, why)))
    rows = map(dict, tiny_recipe().train_data)
    unknown, known = tiny_recipe(train=broken, train_data=lambda: rows), tiny_recipe(train=broken)
    for recipe in (unknown, unknown, known):
        with pytest.raises(TrainingError):
            runner.run(request(recipe))
    assert told == [("tiny, full, seed 0, 4 steps", "train_data, the content of a builtins.map")]


def test_without_a_store_nobody_is_told_that_runs_are_not_shared() -> None:
    told: list[tuple[str, str]] = []
    rows = map(dict, tiny_recipe().train_data)
    with pytest.raises(TrainingError):
        Runner(unshared=lambda *one: told.append(one)).run(request(tiny_recipe(train=broken, train_data=lambda: rows)))
    assert not told


def test_a_training_that_failed_is_not_repeated_and_fails_again(tmp_path: Path) -> None:
    recipe, runner = tiny_recipe(train=raising), Runner(RunStore(tmp_path))
    for _ in range(2):
        with pytest.raises(TrainingError, match="ValueError: broken"):
            runner.run(request(recipe))
    assert TRAINED == ["raising"]
    assert not list(tmp_path.glob("*.json"))


def idle(job: Job) -> None:
    job.lr = 0.0
    train(job)


def test_a_run_that_shows_nothing_is_refused_also_when_it_was_stored(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"full \(seed 0\): 0 of .* trainable parameters moved"):
            Runner(RunStore(tmp_path)).run(request(tiny_recipe(train=idle)))
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_every_run_is_announced_once_whether_trained_or_read(tmp_path: Path) -> None:
    for _ in range(2):
        announced: list[Run] = []
        runner = Runner(RunStore(tmp_path), announced.append)
        recipe = tiny_recipe()
        runner.runs([request(recipe), request(recipe), request(recipe, "lora")])
        assert [run.method for run in announced] == ["full", "lora"]


def test_two_workers_divide_the_runs_between_them(tmp_path: Path) -> None:
    """Each claims what nobody is at; no run is trained twice, and both end with all of them."""
    barrier = threading.Barrier(2)
    results: dict[int, list[Run]] = {}

    def worker(number: int) -> None:
        runner = Runner(RunStore(tmp_path))
        recipe = tiny_recipe()
        barrier.wait()
        results[number] = runner.runs([request(recipe, m, seed) for seed in range(2) for m in ("full", "lora")])

    holder = RunStore(tmp_path)
    key = request(tiny_recipe(), "full", 0).key()
    assert key is not None
    with holder.claim(key) as ours:
        assert ours
        thread = threading.Thread(target=worker, args=(0,))
        thread.start()
        barrier.wait()
        # The worker gets on with the other three while somebody else has the first one.
        while len(list(tmp_path.glob("*.json"))) < 3:
            assert thread.is_alive()
        assert holder.read(key) is None
    thread.join(timeout=60)
    assert [run.method for run in results[0]] == ["full", "lora"] * 2
    assert holder.read(key) is not None


def test_a_run_that_fails_does_not_lose_those_that_were_asked_for_with_it() -> None:
    recipe, runner = tiny_recipe(train=counting), Runner()
    asked = [request(recipe), request(tiny_recipe(train=raising)), request(recipe, seed=1)]
    first, error, second = runner.outcomes(asked)
    assert isinstance(error, TrainingError)
    assert [run.seed for run in (first, second) if isinstance(run, Run)] == [0, 1]
    with pytest.raises(TrainingError, match="broken"):
        runner.runs(asked)
    assert TRAINED.count("raising") == 1
