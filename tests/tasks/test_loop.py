from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_ftcheck import Job
from pytest_ftcheck.building import build_job
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe

STEPS, SAVED = 6, 2


def job_in(folder: Path, method: str = "lora", **changes: Any) -> Job:
    job, _ = build_job(instruction_recipe(), method, 0, STEPS, "cpu", folder)
    for name, value in changes.items():
        setattr(job, name, value)
    return job


@pytest.mark.parametrize("method", ["full", "lora"])
def test_going_on_from_a_checkpoint_ends_in_the_same_weights_to_the_bit(method: str, tmp_path: Path) -> None:
    whole = job_in(tmp_path / "whole", method, save_steps=SAVED)
    loop.train(whole)
    rest = job_in(tmp_path / "rest", method, resume_from=whole.output_dir / f"checkpoint-{2 * SAVED}")
    loop.train(rest)
    for (name, one), other in zip(whole.model.named_parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_checkpoint_holds_the_adapter_as_it_is_shipped_and_no_pickle(tmp_path: Path) -> None:
    job = job_in(tmp_path, save_steps=SAVED)
    loop.train(job)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    files = {path.name for path in (tmp_path / "checkpoint-6").rglob("*") if path.is_file()}
    assert {"parameters.safetensors", "optimizer.safetensors", "state.json", "adapter_model.safetensors"} <= files
    assert not {path for path in files if path.endswith((".pt", ".pth", ".bin", ".pkl"))}


def test_no_checkpoint_is_written_unless_asked_for(tmp_path: Path) -> None:
    loop.train(job_in(tmp_path))
    assert list(tmp_path.iterdir()) == []
