"""Static memory is what real optimizers, gradients and weights hold, to the byte."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.theory.memory import BYTES, StaticBytes, static_bytes, static_ratio

OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters),
    "adam": lambda parameters: torch.optim.Adam(parameters, foreach=False),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def nbytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(t.nbytes for t in tensors if t is not None)


def held_after_a_step(model: nn.Module, optimizer: str) -> StaticBytes:
    """Trains one step and counts the bytes of the tensors that are there."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    updater = OPTIMIZERS[optimizer](trainable)
    tokens = torch.arange(8).reshape(1, 8)
    model(input_ids=tokens, labels=tokens).loss.backward()
    updater.step()
    state = [value for values in updater.state.values() for value in values.values() if isinstance(value, Tensor)]
    weights = nbytes(model.parameters()) + nbytes(model.buffers())
    return StaticBytes(weights, nbytes(p.grad for p in model.parameters()), nbytes(state))


def predicted(model: nn.Module, **settings: str | None) -> StaticBytes:
    trainable = [p for p in model.parameters() if p.requires_grad]
    return static_bytes(
        trainable=sum(p.numel() for p in trainable),
        frozen=sum(p.numel() for p in model.parameters() if not p.requires_grad),
        trainable_tensors=len(trainable),
        buffers_bytes=nbytes(model.buffers()),
        **settings,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_full_fine_tuning_holds_what_the_formula_says(small: nn.Module, optimizer: str, dtype: str) -> None:
    small.to(getattr(torch, dtype))
    assert held_after_a_step(small, optimizer) == predicted(small, dtype=dtype, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lora_holds_gradients_and_state_of_the_adapter_alone(small: nn.Module, optimizer: str) -> None:
    model = get_peft_model(small, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    assert held_after_a_step(model, optimizer) == predicted(model, optimizer=optimizer)


def test_an_adapter_on_a_bfloat16_model_is_held_in_float32(small: nn.Module) -> None:
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = get_peft_model(small.to(torch.bfloat16), config)
    held = held_after_a_step(model, "adamw")
    assert held == predicted(model, dtype="bfloat16", adapter_dtype="float32")
    assert held != predicted(model, dtype="bfloat16")


def test_an_element_has_the_bytes_that_torch_gives_it() -> None:
    assert {name: torch.empty((), dtype=getattr(torch, name)).element_size() for name in BYTES} == BYTES


@pytest.mark.parametrize(("dtype", "per_parameter"), [("float32", 16), ("bfloat16", 8)])
def test_adamw_holds_sixteen_bytes_a_parameter_in_float32_and_eight_in_bfloat16(dtype: str, per_parameter: int) -> None:
    assert static_bytes(trainable=1000, frozen=0, dtype=dtype).total == 1000 * per_parameter


def test_gpt2_holds_almost_four_times_as_much_in_full_as_with_lora() -> None:
    full = static_bytes(trainable=124_439_808, frozen=0, trainable_tensors=148)
    lora = static_bytes(trainable=294_912, frozen=124_439_808, trainable_tensors=24)
    assert full.total == 16 * 124_439_808 + 4 * 148
    assert lora.total == 4 * 124_439_808 + 16 * 294_912 + 4 * 24
    assert static_ratio(full, lora) == pytest.approx(3.9625, abs=1e-4)


def test_a_quantity_that_was_forgotten_is_noticed(small: nn.Module) -> None:
    held = held_after_a_step(small, "adamw")
    assert held != predicted(small, optimizer="sgd-momentum")
    assert held != predicted(small, dtype="bfloat16")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion'; allowed: adamw, adam, sgd, sgd-momentum"),
        ({"dtype": "fp32"}, "dtype is 'fp32'; allowed: float64, float32, "),
        ({"adapter_dtype": "half"}, "dtype is 'half'; allowed: "),
    ],
    ids=str,
)
def test_unknown_names_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        static_bytes(trainable=1, frozen=0, **settings)


def test_static_bytes_survive_json() -> None:
    held = static_bytes(trainable=10, frozen=20)
    assert StaticBytes.from_json(held.to_json()) == held
