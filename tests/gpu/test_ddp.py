"""DistributedDataParallel on one GPU, over NCCL (on a CPU, gloo): it trains what one process does."""

from __future__ import annotations

from typing import Any

import pytest
from gpu.test_both_ways_on_a_device import recipe

from pytest_ftcheck import Recipe

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def ft_recipe() -> Recipe:
    return recipe().replace(name="gpt2-shaped, ddp", steps=4, seeds=1)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_rank_of_its_own_trains_what_one_process_does(ft_run: Any, ft_distributed: Any, method: str) -> None:
    alone, ranks = ft_run(method), ft_distributed(method, processes=1, strategy="ddp").ranks
    assert len(ranks) == 1
    assert ranks[0].environment.device == alone.environment.device
    assert ranks[0].loss.train == pytest.approx(alone.loss.train, rel=1e-3)
    assert ranks[0].parameters.trainable == alone.parameters.trainable
