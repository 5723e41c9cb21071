"""What a training does for speed alone leaves its prediction as it is, or is said to be left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from predict.loops import Batch, Model, loop_recipe, predicted_with, rows
from torch import Tensor
from torch.utils.data import DataLoader

from pytest_ftcheck import Job
from pytest_ftcheck.predict import predict_recipe


def test_workers_and_page_locked_memory_load_the_same_batches_in_this_process() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        settings: dict[str, Any] = dict(batch_size=4, num_workers=2, pin_memory=True, persistent_workers=True)
        loader = DataLoader(rows(), prefetch_factor=4, **settings)
        here = [one["input_ids"] for one in DataLoader(rows(), batch_size=4)]
        for _ in range(2):
            assert all(torch.equal(one["input_ids"], own) for one, own in zip(loader, here, strict=True))
        assert torch.utils.data.get_worker_info() is None

    predicted_with(step)


@pytest.mark.parametrize(
    "compiled", [lambda: torch.compile(Model()), lambda: in_place(Model())], ids=["new", "in place"]
)
def test_a_compiled_model_is_predicted_as_an_eager_one_and_a_note_says_so(compiled: Any) -> None:
    prediction = predict_recipe(loop_recipe(model=compiled))
    assert prediction.notes == ("predicted as if it was not compiled (torch.compile)",)
    assert prediction.memory == predict_recipe(loop_recipe()).memory


def in_place(model: Model) -> Model:
    model.compile()
    return model
