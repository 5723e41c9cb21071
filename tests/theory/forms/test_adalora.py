"""AdaLoRA trains three factors on each layer and keeps its rank in a frozen parameter, however much is pruned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import AdaLoraConfig
from theory.built import Alone, assert_form_is_what_peft_builds, built, causes, form_of, told_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Peft
from pytest_ftcheck.theory.parameters import parameter_form


def adalora(targets: Any, init_r: int = 3, **settings: Any) -> Peft:
    settings = {"target_r": 1, "total_step": 10, **settings}
    return Peft(AdaLoraConfig(init_r=init_r, target_modules=targets, **settings))


LAYERS: dict[str, tuple[nn.Module, dict[str, Any], int]] = {
    "Linear": (nn.Linear(6, 10), {}, 3 * (6 + 10 + 1)),
    "Conv1D of transformers": (Conv1D(10, 6), {}, 3 * (6 + 10 + 1)),
    "Conv2d": (nn.Conv2d(4, 6, (3, 5)), {}, 3 * (4 * 15 + 6 + 1)),
    "grouped Conv2d": (nn.Conv2d(4, 6, 3, groups=2), {}, 3 * (4 * 9 + 6 + 1)),
    "bias lora_only": (nn.Linear(6, 10), {"bias": "lora_only"}, 3 * 17 + 10),
    "bias all": (nn.Linear(6, 10), {"bias": "all"}, 3 * 17 + 10 + 4),
    "no rank": (nn.Linear(6, 10), {"init_r": 0}, 0),
}


@pytest.mark.parametrize(("layer", "settings", "trainable"), LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_its_closed_form(layer: nn.Module, settings: dict[str, Any], trainable: int) -> None:
    form = assert_form_is_what_peft_builds(Alone(layer), adalora(["layer"], **settings))
    assert form.trainable == trainable


def test_the_rank_that_is_left_is_one_frozen_parameter_a_layer(small: nn.Module) -> None:
    form = form_of(small, adalora(["c_attn"]))
    base = sum(parameter.numel() for parameter in small.parameters())
    assert form.total - base - form.trainable == 2


NETWORKS = {
    "attention": adalora(["c_attn"]),
    "PEFT's defaults": adalora(None),
    "all-linear": adalora("all-linear", bias="all"),
    "tied head": adalora(["lm_head"]),
    "copies": adalora(["c_attn"], modules_to_save=["lm_head", "wte"]),
    "one layer": adalora(["c_attn"], layers_to_transform=[1]),
    # ``r`` is LoRA's, and of no meaning here.
    "with LoRA's r": adalora(["c_attn"], r=99),
}


@pytest.mark.parametrize("method", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_module_has_what_peft_gives_it(small: nn.Module, method: Peft) -> None:
    assert_form_is_what_peft_builds(small, method)


def test_pruning_takes_no_parameter_away(small: nn.Module) -> None:
    method = adalora(["c_attn"], total_step=4)
    form, model = form_of(small, method), built(small, method)
    tokens = torch.arange(8)[None]
    for step in range(1, 4):
        model(input_ids=tokens, labels=tokens).loss.backward()
        model.base_model.update_and_allocate(step)  # type: ignore[union-attr, operator]
        model.zero_grad()
    kept = model.peft_config["default"].rank_pattern  # type: ignore[union-attr, index]
    assert sum(sum(ranks) for ranks in kept.values()) < 2 * 3
    assert causes(form, model) == {}


def test_another_rank_is_told(small: nn.Module) -> None:
    told = told_of(small, adalora(["c_attn"]), adalora(["c_attn"], init_r=5))
    assert told == {f"transformer.h.{i}.attn.c_attn": "rank 5 instead of 3" for i in (0, 1)}


def test_frozen_factors_are_told(small: nn.Module) -> None:
    method = adalora(["c_attn"])
    form, model = form_of(small, method), built(small, method)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and "h.1" not in name and "lora_E" not in name)
    assert causes(form, model) == {
        "transformer.h.0.attn.c_attn": "part of it is frozen",
        "transformer.h.1.attn.c_attn": "the adapter is frozen",
    }


def test_no_form_is_claimed_of_settings_with_rules_of_their_own(small: nn.Module) -> None:
    assert parameter_form(small, adalora(["c_attn"], trainable_token_indices=[0])) is None
    assert parameter_form(small, adalora(["c_attn"], target_parameters=["wte.weight"])) is None
    assert parameter_form(small, adalora(["c_attn"], trainable_token_indices=None)) is not None


def test_an_embedding_is_refused_as_peft_does(small: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"AdaLora cannot adapt transformer.wte, a Embedding; allowed: Linear, "):
        parameter_form(small, adalora(["wte"]))
    with pytest.raises(ValueError, match="not supported"):
        built(small, adalora(["wte"]))
