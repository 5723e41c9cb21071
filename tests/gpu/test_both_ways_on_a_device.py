"""What must hold on a GPU. With --ftcheck-device=cpu the same claims are checked on the CPU."""

from __future__ import annotations

import pytest
import torch
from observers.models import gpt2

from pytest_ftcheck import Full, LoRA, Pair, Recipe, Run
from pytest_ftcheck.theory.memory import StaticBytes, static_bytes

pytestmark = pytest.mark.gpu

VOCABULARY, LENGTH = 4000, 64


def rows() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, VOCABULARY, (64, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in ids]


def model() -> torch.nn.Module:
    return gpt2(dropout=0.0, vocabulary=VOCABULARY)


def recipe() -> Recipe:
    return Recipe(
        name="gpt2-shaped",
        model=model,
        train_data=rows,
        eval_data=rows()[:8],
        full=Full(lr=1e-3),
        lora=LoRA(r=8, alpha=16, target_modules=["c_attn"], lr=1e-2),
        steps=20,
        seeds=2,
        batch_size=4,
    )


@pytest.fixture(scope="session")
def ft_recipe() -> Recipe:
    return recipe()


def closed_form(run: Run) -> StaticBytes:
    """What a run holds whatever its batch is, with AdamW in float32."""
    counts = run.parameters
    tensors = sum(tensor.trainable for tensor in counts.tensors)
    return static_bytes(trainable=counts.trainable, frozen=counts.frozen, trainable_tensors=tensors)


def test_both_arms_train_as_declared(ft_pair: Pair) -> None:
    assert ft_pair.paired
    for run in (*ft_pair.fulls, *ft_pair.loras):
        assert not run.deviations
        assert run.loss.final < run.loss.train[0]


def test_memory_is_measured_where_the_training_was(ft_pair: Pair, ft_device: str) -> None:
    for run in (ft_pair.full, ft_pair.lora):
        assert run.environment.device == ft_device.split(":")[0]
        assert run.memory.source == ("allocator" if ft_device.startswith("cuda") else "live")


def test_live_bytes_are_close_to_the_allocators_peak(ft_pair: Pair) -> None:
    # The allocator rounds each tensor up to 512 bytes, and kernels have workspaces (cuBLAS: 8 MiB, 32 MiB on Hopper).
    for run in (ft_pair.full, ft_pair.lora):
        workspace = 0 if run.memory.source == "live" else 33 * 2**20
        assert run.memory.at_peak.total <= run.memory.peak_bytes * 1.01
        assert run.memory.peak_bytes <= run.memory.at_peak.total * 1.05 + workspace


def test_static_memory_is_the_closed_form(ft_pair: Pair) -> None:
    for run in (ft_pair.full, ft_pair.lora):
        # Full: with foreach AdamW on a GPU the step counters stay on the CPU: 4 bytes a tensor.
        assert run.memory.static_bytes == pytest.approx(closed_form(run).total, rel=1e-3)


def test_every_update_but_the_first_is_timed(ft_pair: Pair) -> None:
    assert len(ft_pair.full.time.samples_s) == 19
    assert 0 < ft_pair.full.time.step_s < 10
    assert ft_pair.full.time.tokens_per_s > 0
