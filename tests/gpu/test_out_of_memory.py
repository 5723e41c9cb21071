"""A training that the GPU has no room for is told in one piece, and the next one has its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpu.test_gpt2_124m import model, rows

from pytest_ftcheck import Full, Recipe
from pytest_ftcheck.errors import OutOfMemoryError


@pytest.fixture(scope="module")
def ft_recipe() -> Recipe:
    return Recipe(
        name="gpt2-124m without room", model=model, train_data=rows, full=Full(lr=1e-4), lora=None, steps=2, seeds=1
    )


# The weights, gradients and states of AdamW are 1.99 GB.
@pytest.mark.gpu(memory="1.5GB")
def test_out_of_memory_says_what_is_held_whatever_the_batch_is(ft_run: Any, ft_device: str) -> None:
    if ft_device == "cpu":
        pytest.skip("nothing limits what a CPU allocates")
    with pytest.raises(OutOfMemoryError, match=r"held whatever the batch is, with AdamW: 1\.85 GiB"):
        ft_run("full")


@pytest.mark.gpu(memory="6GB")
def test_the_next_test_has_the_memory_of_the_one_that_had_too_little(ft_run: Any, ft_device: str) -> None:
    if ft_device == "cpu":
        pytest.skip("nothing limits what a CPU allocates")
    assert torch.cuda.memory_allocated(ft_device) < 100e6
    assert ft_run("full").loss.finite
