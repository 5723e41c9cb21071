from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import a_pair, a_run
from recipes import tiny_model, tiny_recipe

from pytest_ftcheck import Job, Pair, Run
from pytest_ftcheck.allowance import Allowance
from pytest_ftcheck.errors import OutOfMemoryError, TimeLimitError, TrainingError
from pytest_ftcheck.report.assertion import explain
from pytest_ftcheck.runner import Request, Runner
from pytest_ftcheck.store import RunStore
from pytest_ftcheck.training import train

RETRIED = "batch_size 4 x accumulation 1 -> batch_size 2 x accumulation 2 after out of memory"
MODELS: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


def with_room_for(rows: int) -> Any:
    """A training on a device that holds the activations of so many rows."""

    def small(job: Job) -> None:
        gc.collect()
        others = [model for model in MODELS if model is not job.model]
        MODELS.add(job.model)
        if job.batch_size > rows or others:
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory: {job.batch_size} rows, {len(others)} old models")
        train(job)

    return small


def request(rows: int, **changes: Any) -> Request:
    return Request(tiny_recipe(train=with_room_for(rows), eval_data=None, **changes), "full", 0, 3, "cpu")


@pytest.fixture(autouse=True)
def _no_models() -> None:
    MODELS.clear()


def test_a_run_is_tried_again_with_half_the_batch_and_as_many_rows_in_an_update() -> None:
    run = Allowance(retries=True).run(request(2))
    assert (run.retried, run.batch_size, run.accumulation) == (RETRIED, 2, 2)
    assert run.time.tokens_per_step == Allowance().run(request(4)).time.tokens_per_step
    assert Run.from_json(run.to_json()) == run
    assert run.deviations == (f"trained with another batch than declared: {RETRIED}",)


def test_a_run_that_fits_is_not_said_to_be_retried() -> None:
    run = Allowance(retries=True).run(request(4))
    assert (run.retried, run.batch_size, run.accumulation, run.deviations) == ("", 4, 1, ())


def test_it_is_tried_once_and_both_batches_are_named() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        Allowance(retries=True).run(request(1))
    first, *others = str(caught.value).splitlines()
    assert "CUDA out of memory: 4 rows, 0 old models" in first
    assert others[-1].startswith("  tried again with batch_size 2 x accumulation 2: full: out of memory")
    assert "CUDA out of memory: 2 rows, 0 old models" in others[-1]


@pytest.mark.parametrize("allowance", [Allowance(), Allowance(retries=True)])
def test_an_odd_batch_or_no_leave_is_no_second_try(allowance: Allowance) -> None:
    asked = request(1, batch_size=3) if allowance.retries else request(2)
    with pytest.raises(OutOfMemoryError) as caught:
        allowance.run(asked)
    assert "tried again" not in str(caught.value)


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def broken(job: Job) -> None:
        calls.append(job)
        raise ValueError("a defect")

    asked = Request(tiny_recipe(train=broken), "full", 0, 3, "cpu")
    with pytest.raises(TrainingError, match="a defect"):
        Allowance(retries=True).run(asked)
    assert len(calls) == 1


def test_a_remembered_failure_holds_no_model(tmp_path: Path) -> None:
    runner, asked = Runner(), request(2)
    with pytest.raises(OutOfMemoryError):
        runner.run(asked)
    gc.collect()
    assert len(MODELS) == 0


def test_out_of_memory_that_something_else_came_of_is_found_with_its_place() -> None:
    def wrapped(job: Job) -> None:
        try:
            with_room_for(0)(job)
        except RuntimeError as error:
            raise ValueError("the step failed") from error

    with pytest.raises(
        OutOfMemoryError, match=r"4 rows, 0 old models\)\n  at .*test_allowance.py:\d+ in small\n  held"
    ):
        Allowance().run(Request(tiny_recipe(train=wrapped), "full", 0, 3, "cpu"))


def test_a_model_that_does_not_fit_is_not_tried_with_another_batch() -> None:
    class Large(torch.nn.Linear):
        def to(self, *_: Any, **__: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 200.00 GiB")

    asked = Request(tiny_recipe(model=lambda: Large(2, 2)), "full", 0, 3, "cpu")
    with pytest.raises(TrainingError, match=r"full: out of memory on cpu: the model alone does not fit \(.*200"):
        Allowance(retries=True).run(asked)


def test_a_session_without_retries_does_not_believe_a_stored_run_that_has_one(tmp_path: Path) -> None:
    store, asked = RunStore(tmp_path), request(2)
    retrying = Allowance(retries=True)
    first = Runner(store, allowance=retrying).run(asked)
    assert Runner(store, allowance=retrying).run(asked) == first
    with pytest.raises(OutOfMemoryError):
        Runner(store).run(asked)


def test_a_run_that_takes_longer_than_it_may_says_so() -> None:
    def endless(job: Job) -> None:
        while True:
            tiny_model()

    with pytest.raises(TimeLimitError, match=r"full: the run of 3 updates took longer than 1 s"):
        Allowance(time_limit_s=1).run(Request(tiny_recipe(train=endless), "full", 0, 3, "cpu"))


def unlike() -> Pair:
    """Full was retried, LoRA was not."""
    pair = a_pair()
    split = {"batch_size": 2, "accumulation": 4, "retried": "batch_size 4 -> 2"}
    fulls = [
        dataclasses.replace(run, loss=dataclasses.replace(run.loss, batches="others"), **split) for run in pair.fulls
    ]
    return Pair(tuple(fulls), pair.loras)


DIVIDED = "updates of full were 2 rows x 4, of LoRA 4 rows x 2 (retried after out of memory)"


def test_arms_that_were_divided_differently_say_so_wherever_they_are_compared() -> None:
    pair = unlike()
    assert DIVIDED in repr(pair)
    assert DIVIDED in pair.loss_order().reason
    assert pair.loss_order().winner == "undecided"
    explained = explain("==", pair.memory_ratio("peak"), 1.0)
    assert explained is not None
    assert f"not of the same batches: {DIVIDED}" in explained


def test_arms_that_were_divided_alike_say_nothing_of_it() -> None:
    both = a_pair(batch_size=2, accumulation=4, retried="batch_size 4 -> 2")
    for pair in (a_pair(), both):
        assert pair.divided == ""
        assert "rows x" not in repr(pair) + pair.loss_order().reason
    assert a_run().retried == ""
