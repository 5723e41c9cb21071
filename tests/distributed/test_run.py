"""A training of several processes, rank by rank, beside the same of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recipes import tiny_recipe

from pytest_ftcheck.distributed.run import DistributedRun, train_distributed
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.execution import execute

STEPS = 3


def two_heads(model: Any) -> Any:
    """A strategy of the user's own."""
    return torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=1)


@pytest.fixture(scope="module", params=["ddp", "fsdp2", two_heads], ids=["ddp", "fsdp2", "function"])
def trained(request: pytest.FixtureRequest) -> DistributedRun:
    return train_distributed(tiny_recipe(batch_size=2), "lora", steps=STEPS, processes=2, strategy=request.param)


@pytest.fixture(scope="module")
def one() -> Any:
    """The batches of both processes in one."""
    return execute(tiny_recipe(batch_size=4), "lora", 0, STEPS, "cpu")


def test_each_rank_brings_a_run_of_its_own(trained: DistributedRun) -> None:
    assert trained.processes == len(trained.ranks) == 2
    assert trained.ranks[0].loss.batches != trained.ranks[1].loss.batches
    assert all(len(run.loss.train) == STEPS for run in trained.ranks)
    assert all(run.memory.peak_bytes > 0 and run.flops.total > 0 for run in trained.ranks)
    assert repr(trained).startswith("<DistributedRun of 2 ranks (")


def test_the_default_loop_trains_as_one_process_does_on_the_rows_of_all(trained: DistributedRun, one: Any) -> None:
    assert trained.train_loss == pytest.approx(one.loss.train, rel=1e-5)
    assert [run.loss.final for run in trained.ranks] == pytest.approx([one.loss.final] * 2, rel=1e-5)


def test_the_parameters_are_those_of_one_process_by_name_shape_and_what_became_of_them(
    trained: DistributedRun, one: Any
) -> None:
    for run in trained.ranks:
        assert run.parameters.tensors == one.parameters.tensors
        assert run.optimizers == one.optimizers
        assert not run.deviations


def test_what_is_sharded_takes_each_rank_about_half_of_the_weights(trained: DistributedRun, one: Any) -> None:
    shares = [run.memory.weights_bytes / one.memory.weights_bytes for run in trained.ranks]
    assert shares == pytest.approx([0.5, 0.5] if trained.strategy == "fsdp2" else [1, 1], abs=0.05)


def test_it_is_read_back_as_it_was_written(trained: DistributedRun) -> None:
    assert DistributedRun.from_json(trained.to_json()) == trained


def test_one_process_is_refused() -> None:
    with pytest.raises(RecipeError, match="ft_distributed needs processes=2 or more, in its call or in the recipe"):
        train_distributed(tiny_recipe(), "lora")


def test_one_process_that_is_asked_for_tries_a_strategy() -> None:
    """As where there is one GPU."""
    ran = train_distributed(tiny_recipe(steps=1), "full", processes=1, strategy="ddp")
    assert (ran.strategy, ran.processes) == ("ddp", 1)
    assert ran.ranks[0].loss.finite


def test_a_loop_that_joins_a_second_process_group_is_told_so() -> None:
    from loops import ddp

    from pytest_ftcheck.errors import TrainingError

    recipe = tiny_recipe(train=ddp(), processes=2, strategy="ddp", steps=1)
    with pytest.raises(TrainingError, match="initialize the default process group twice"):
        train_distributed(recipe, "lora")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ftcheck import devices

    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * 10**9,)))
    with pytest.raises(RecipeError, match="2 processes need as many GPUs, and there are 1; allowed: processes=1, or"):
        train_distributed(tiny_recipe(), "lora", processes=2, strategy="ddp", device="cuda:0")
