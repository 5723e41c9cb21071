"""A dry run is two updates of the user's own loop, and nothing of what comes after."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from predict.loops import LENGTH, Batch, Model, loop_recipe, predicted_with
from torch import Tensor, nn

from pytest_ftcheck import Full, Job, Recipe
from pytest_ftcheck.errors import TrainingError
from pytest_ftcheck.predict import predict_recipe


def endless(job: Job) -> None:
    """Knows nothing of ``job.steps``, and saves when it is done."""
    optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr)
    ids = torch.ones(4, LENGTH, dtype=torch.long, device=job.device)
    for _ in range(10**9):
        job.model(ids, ids)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.save(job.model.state_dict(), job.output_dir / "model.pt")


def test_a_loop_of_any_length_is_ended_when_enough_has_been_seen() -> None:
    prediction = predict_recipe(loop_recipe(train=endless))
    assert prediction.memory.optimizer_bytes == predict_recipe(loop_recipe()).memory.optimizer_bytes


def test_a_loop_that_makes_no_update_is_told() -> None:
    with pytest.raises(TrainingError, match=r"full: train\(job\) made 0 of 2 updates"):
        predict_recipe(loop_recipe(train=lambda job: None))


def test_what_the_loop_holds_from_step_to_step_counts() -> None:
    held: list[Tensor] = []

    def hold(job: Job, batch: Batch, loss: Tensor) -> None:
        held.append(torch.zeros(10_000, device=job.device))

    # 40,000 bytes are 79 blocks of 512. The second one is there from the optimizer's step on, the first one always.
    more = predicted_with(hold).peak_bytes - predict_recipe(loop_recipe()).peak_bytes
    assert 79 * 512 < more <= 2 * 79 * 512


def test_adapters_are_predicted_as_what_they_are() -> None:
    full, lora = (predict_recipe(loop_recipe(), method) for method in ("full", "lora"))
    assert lora.memory.optimizer_bytes < full.memory.optimizer_bytes
    assert lora.memory.weights_bytes > full.memory.weights_bytes


def test_a_copy_of_the_model_is_held_and_not_watched() -> None:
    """An average of the weights, or the model that a preference is measured from."""
    copies: list[nn.Module] = []

    def average(job: Job, batch: Batch, loss: Tensor) -> None:
        copies[:] = copies or [copy.deepcopy(job.model)]
        copies[0](**batch)
        for mean, parameter in zip(copies[0].parameters(), job.model.parameters(), strict=True):
            assert mean.requires_grad
            mean.data.lerp_(parameter.data, 0.1)

    plain, averaged = predict_recipe(loop_recipe()), predicted_with(average)
    assert averaged.memory.optimizer_bytes == plain.memory.optimizer_bytes
    assert averaged.peak_bytes >= plain.peak_bytes + plain.memory.weights_bytes


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from predict.loops import LENGTH, Model

device = "cuda" if torch.cuda.is_available() else "cpu"
model = Model()
optimizer = torch.optim.AdamW(model.parameters())
model.to(device)
ids = torch.ones(4, LENGTH, dtype=torch.long).to(device)
for step in range(100):
    loss = model(ids, ids)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(step, loss.item())
"""


def test_a_script_that_chooses_its_device_finds_the_gpu(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    prediction = predict_recipe(Recipe.from_script(path, full=Full(), lora=None))
    assert prediction.backend == "fakegpu"
    assert prediction.memory.optimizer_bytes == predict_recipe(loop_recipe()).memory.optimizer_bytes
    assert prediction.notes == ("a float that is read is taken to be 1.0 (train.py:17)",)


def test_frozen_parts_have_neither_gradients_nor_states() -> None:
    def frozen() -> nn.Module:
        model = Model()
        model.embed.requires_grad_(False)
        return model

    recipe = loop_recipe(model=frozen, adapt=lambda model, method: model, lora=None)
    assert predict_recipe(recipe).memory.optimizer_bytes < predict_recipe(loop_recipe()).memory.optimizer_bytes
