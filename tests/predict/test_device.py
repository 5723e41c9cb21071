"""The GPU that a training finds is ``cuda:0``, in whatever way the training names it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from predict.loops import Batch, Model, loop_recipe, predicted_with
from torch import Tensor, nn

from pytest_ftcheck import Job
from pytest_ftcheck.errors import PredictionError, TrainingError
from pytest_ftcheck.predict import predict_recipe


def test_a_training_finds_itself_on_cuda() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        assert job.device == "cuda:0"
        assert loss.device == torch.device("cuda", 0)
        assert loss.is_cuda
        assert loss.to("cuda") is loss
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 1

    assert predicted_with(step).backend == "fakegpu"


def on_cuda(make: Any) -> None:
    made = make()
    assert made.device == torch.device("cuda", 0), made.device


def test_every_way_to_name_the_gpu_means_it() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        for device in ("cuda", "cuda:0", torch.device("cuda"), 0):
            make_everything(device, loss)

    def make_everything(device: Any, loss: Tensor) -> None:
        on_cuda(lambda: torch.zeros(3, device=device))
        on_cuda(lambda: torch.ones(3).to(device))
        on_cuda(lambda: torch.ones(3).cuda())
        on_cuda(lambda: torch.tensor([1.0, 2.0], device=device))
        on_cuda(lambda: torch.as_tensor([1, 2], device=device))
        on_cuda(lambda: loss.new_tensor([1.0]))
        on_cuda(lambda: torch.randn(3, device=device, generator=torch.Generator(device="cuda")))
        on_cuda(lambda: nn.Linear(2, 2, device=device).weight)
        with torch.device(device):
            on_cuda(lambda: torch.zeros(3))
            on_cuda(lambda: torch.tensor([1.0]))

    predicted_with(step)


def test_a_second_gpu_is_refused() -> None:
    with pytest.raises(PredictionError, match="the training uses cuda:1, and a prediction is for one GPU"):
        predicted_with(lambda job, batch, loss: loss.to("cuda:1"))


def test_a_batch_that_stayed_on_the_cpu_fails_as_on_a_gpu() -> None:
    message = "raised RuntimeError: Expected all tensors to be on the same device, but found .* cuda:0 and cpu"
    with pytest.raises(TrainingError, match=message):
        predicted_with(lambda job, batch, loss: job.model(**{key: value.cpu() for key, value in batch.items()}))


def test_a_model_built_on_the_gpu_is_predicted_like_one_that_is_moved() -> None:
    on_the_gpu = predict_recipe(loop_recipe(model=lambda: Model().to("cuda")))
    assert on_the_gpu.peak_bytes == predict_recipe(loop_recipe()).peak_bytes


def test_a_training_that_stays_on_the_cpu_is_told() -> None:
    def train(job: Job) -> None:
        job.model.cpu()
        optimizer = torch.optim.AdamW(job.model.parameters())
        batch = {key: value[None] for key, value in job.train_data[0].items()}
        job.model(**batch)["loss"].backward()
        optimizer.step()

    with pytest.raises(PredictionError, match="the model is on cpu when it trains, and the prediction is for cuda:0"):
        predict_recipe(loop_recipe(train=train))
