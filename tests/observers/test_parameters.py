from __future__ import annotations

import pytest
import torch
from observers.models import Next, cross_entropy, gpt2, loop, tokens
from peft import LoraConfig, get_peft_model

from pytest_ftcheck import observe
from pytest_ftcheck.observers.parameters import digest


def test_a_frozen_parameter_neither_trains_nor_moves() -> None:
    model = Next()
    model.embed.weight.requires_grad_(False)
    with observe(model) as seen:
        loop(model)
    states = {t.name: (t.trainable, t.optimized, t.gradient, t.moved) for t in seen.parameters.tensors}
    assert states["embed.weight"] == (False, False, False, False)
    assert states["head.weight"] == (True, True, True, True)


def test_a_frozen_parameter_that_is_written_to_has_moved() -> None:
    model = Next()
    model.embed.weight.requires_grad_(False)
    with observe(model) as seen:
        loop(model, steps=1)
        model.embed.weight[0, 0] += 1e-3
    moved = {t.name for t in seen.parameters.tensors if t.moved and not t.trainable}
    assert moved == {"embed.weight"}


def test_a_parameter_left_out_of_the_optimizer_is_not_optimized() -> None:
    model = Next()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    with observe(model) as seen:
        cross_entropy(model, tokens()).backward()
        optimizer.step()
    embed = next(t for t in seen.parameters.tensors if t.name == "embed.weight")
    assert (embed.trainable, embed.optimized, embed.gradient, embed.moved) == (True, False, True, False)


def test_lora_a_has_a_gradient_by_the_third_update_though_not_in_the_first() -> None:
    def gradients(steps: int) -> set[bool]:
        model = get_peft_model(
            gpt2(layers=1, width=16, vocabulary=8), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        )
        with observe(model) as seen:
            loop(model, steps=steps, loss=lambda step: model(input_ids=tokens(), labels=tokens()).loss)
        return {t.gradient for t in seen.parameters.tensors if "lora_A" in t.name}

    assert gradients(steps=1) == {False}
    assert gradients(steps=3) == {True}


def test_updates_lost_to_rounding_do_not_move_a_bfloat16_weight() -> None:
    model = Next().to(torch.bfloat16)
    torch.nn.init.ones_(model.head.bias)
    with observe(model) as seen:
        loop(model, steps=3, lr=1e-7)
    bias = next(t for t in seen.parameters.tensors if t.name == "head.bias")
    assert (bias.dtype, bias.gradient, bias.moved) == ("bfloat16", True, False)


def test_tied_parameters_are_listed_once() -> None:
    model = gpt2(layers=1, width=16, vocabulary=8)
    with observe(model) as seen:
        loop(model, steps=1, loss=lambda _: model(input_ids=tokens(), labels=tokens()).loss)
    names = [t.name for t in seen.parameters.tensors]
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    assert seen.parameters.total == model.num_parameters()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_a_digest_sees_a_single_bit_in_every_dtype(dtype: torch.dtype) -> None:
    tensor = torch.zeros(3, 5).to(dtype)
    changed = tensor.clone()
    changed[2, 4] = 1
    assert digest(tensor) == digest(tensor.clone())
    assert digest(tensor) != digest(changed)


def test_a_digest_tells_minus_zero_from_zero_and_accepts_nan() -> None:
    assert digest(torch.tensor([0.0])) != digest(torch.tensor([-0.0]))
    assert digest(torch.tensor([float("nan")])) == digest(torch.tensor([float("nan")]))


def test_a_digest_is_of_the_elements_and_not_of_the_storage() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest(matrix.T) == digest(matrix.T.contiguous())
