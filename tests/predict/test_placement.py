"""A model on the fake device is the model that it was: the same tensors, tied, frozen and owned as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from predict.loops import LENGTH, Batch, Model, loop_recipe, predicted_with
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pytest_ftcheck import Job, LoRA
from pytest_ftcheck.predict import predict_recipe

WIDTH = 8


class Odd(Model):
    """Owns tensors in every way that a module can."""

    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.embed.weight
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(WIDTH)) for _ in range(2)])
        self.by_name = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(WIDTH), requires_grad=False)})
        self.normed = parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        self.shared = self.layer
        self.register_buffer("positions", torch.arange(LENGTH), persistent=False)
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        hidden = self.shared(self.embed(input_ids)) * self.scales[0] + self.by_name["shift"] + self.mean
        logits = self.head(self.normed(hidden) * self.scales[1])
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def test_every_kind_of_tensor_is_placed_and_stays_what_it_was() -> None:
    expected = [(name, p.shape, p.requires_grad) for name, p in Odd().named_parameters()]

    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        model = job.model
        assert [(name, p.shape, p.requires_grad) for name, p in model.named_parameters()] == expected
        assert {str(tensor.device) for tensor in [*model.parameters(), *model.buffers()]} == {"cuda:0"}
        assert model.head.weight is model.embed.weight
        assert "positions" not in model.state_dict()
        assert model.positions.tolist() == list(range(LENGTH))

    predicted_with(step, model=Odd, adapt=lambda model, method: model, lora=None)


def test_tied_weights_are_held_once() -> None:
    def untied() -> nn.Module:
        model = Odd()
        model.head.weight = nn.Parameter(model.head.weight.clone())
        return model

    tied, apart = (predict_recipe(loop_recipe(model=make, lora=None, adapt=keep)) for make in (Odd, untied))
    assert apart.memory.weights_bytes - tied.memory.weights_bytes == 1024  # 20 x 8 floats, in multiples of 512 bytes


def keep(model: nn.Module, method: Any) -> nn.Module:
    return model


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Model()


def test_a_model_without_weights_is_predicted_like_one_with_them() -> None:
    meta, real = (predict_recipe(loop_recipe(model=make), "lora") for make in (on_meta, Model))
    assert meta.memory == real.memory


def test_an_adapter_with_a_copy_of_a_module_is_placed() -> None:
    lora = LoRA(r=2, target_modules=["linear", "embed"], modules_to_save=["head"])

    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        names = [name for name, p in job.model.named_parameters() if p.requires_grad and p.device.type == "cuda"]
        assert any("lora_embedding_A" in name for name in names)
        assert any("modules_to_save" in name for name in names)

    predict_recipe(loop_recipe(step, lora=lora), "lora")


CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "to": lambda model: model.to("cuda", torch.float16),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_a_cast_in_the_loop_is_followed_by_an_optimizer_that_was_there_before(
    cast: Callable[[nn.Module], nn.Module],
) -> None:
    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW(job.model.parameters())
        held = [id(parameter) for parameter in job.model.parameters()]
        cast(job.model)
        assert [id(parameter) for parameter in job.model.parameters()] == held
        steps(job, job.model, optimizer)

    half, full = predict_recipe(loop_recipe(train=train)), predict_recipe(loop_recipe())
    assert half.memory.weights_bytes < full.memory.weights_bytes


def test_a_model_that_the_loop_moves_itself_is_the_one_that_its_optimizer_has() -> None:
    def train(job: Job) -> None:
        model = Model()
        optimizer = torch.optim.AdamW(model.parameters())
        model.embed.requires_grad_(False)
        job.replace_model(model.cuda())
        assert not model.embed.weight.requires_grad
        steps(job, model, optimizer)

    predict_recipe(loop_recipe(train=train, lora=None))


def steps(job: Job, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(job.steps):
        ids = torch.ones(2, LENGTH, dtype=torch.long, device=job.device)
        model(ids, ids)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()


def test_moving_to_where_it_is_already_changes_nothing() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        held = [id(parameter) for parameter in job.model.parameters()]
        job.model.to(job.device).cuda().to(torch.float32)
        assert [id(parameter) for parameter in job.model.parameters()] == held

    assert predicted_with(step).memory == predict_recipe(loop_recipe()).memory


def test_the_users_own_model_is_left_alone() -> None:
    model = Model()
    predict_recipe(loop_recipe(model=lambda: model, lora=None))
    assert {str(parameter.device) for parameter in model.parameters()} == {"cpu"}
    assert model.embed.weight.isfinite().all()
