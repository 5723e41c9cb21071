"""VeRA trains two vectors on each layer; its shared matrices are buffers, in no count of parameters."""

from __future__ import annotations

from typing import Any

import pytest
from peft import VeraConfig
from theory.built import Alone, assert_form_is_what_peft_builds, built, form_of, told_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Peft
from pytest_ftcheck.theory.parameters import parameter_form


def vera(targets: Any, r: int = 5, **settings: Any) -> Peft:
    return Peft(VeraConfig(r=r, target_modules=targets, **settings))


LAYERS: dict[str, tuple[nn.Module, dict[str, Any], int]] = {
    "Linear": (nn.Linear(6, 10), {}, 5 + 10),
    "Conv1D of transformers": (Conv1D(10, 6), {}, 5 + 10),
    "bias vera_only": (nn.Linear(6, 10), {"bias": "vera_only"}, 5 + 10 + 10),
    "bias vera_only, none there": (nn.Linear(6, 10, bias=False), {"bias": "vera_only"}, 5 + 10),
    "bias all": (nn.Linear(6, 10), {"bias": "all"}, 5 + 10 + 10 + 4),
}


@pytest.mark.parametrize(("layer", "settings", "trainable"), LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_its_closed_form(layer: nn.Module, settings: dict[str, Any], trainable: int) -> None:
    assert assert_form_is_what_peft_builds(Alone(layer), vera(["layer"], **settings)).trainable == trainable


NETWORKS = {
    "layers of two shapes": vera(["c_attn", "c_fc"]),
    "all-linear, all biases": vera("all-linear", bias="all"),
    "PEFT's defaults": vera(None),
    "tied head": vera(["lm_head", "c_attn"]),
    "copies": vera(["c_attn"], modules_to_save=["lm_head", "ln_f"], bias="vera_only"),
    "one layer": vera(["c_attn"], layers_to_transform=[1]),
}


@pytest.mark.parametrize("method", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_module_has_what_peft_gives_it(small: nn.Module, method: Peft) -> None:
    assert_form_is_what_peft_builds(small, method)


@pytest.mark.parametrize("saved", [True, False])
def test_the_shared_matrices_are_buffers_as_large_as_the_largest_layers(small: nn.Module, saved: bool) -> None:
    method = vera(["c_attn", "mlp.c_proj"], save_projection=saved)
    assert form_of(small, method).trainable == 2 * (5 + 36) + 2 * (5 + 12)
    shared = {id(b): b for name, b in built(small, method).named_buffers() if "vera_" in name}
    # The longest inputs are the 48 of c_proj, the most outputs the 36 of c_attn.
    assert sum(b.numel() for b in shared.values()) == 5 * (48 + 36)


def test_another_rank_is_told(small: nn.Module) -> None:
    declared = vera(["c_attn", "c_fc"])
    names = [f"transformer.h.{i}.{layer}" for i in (0, 1) for layer in ("attn.c_attn", "mlp.c_fc")]
    assert told_of(small, declared, vera(["c_attn", "c_fc"], r=7)) == dict.fromkeys(names, "rank 7 instead of 5")


def test_a_module_fewer_is_told(small: nn.Module) -> None:
    fewer = told_of(small, vera(["c_attn", "c_fc"]), vera(["c_attn"]))
    assert fewer == {f"transformer.h.{i}.mlp.c_fc": "no adapter here" for i in (0, 1)}


@pytest.mark.parametrize("layer", [nn.Embedding(5, 4), nn.Conv2d(4, 4, 3)], ids=["Embedding", "Conv2d"])
def test_a_layer_that_vera_cannot_adapt_is_named(layer: nn.Module) -> None:
    with pytest.raises(RecipeError, match=rf"Vera cannot adapt layer, a {type(layer).__name__}; allowed: Linear, "):
        parameter_form(Alone(layer), vera(["layer"]))
    with pytest.raises(ValueError, match="No layers types compatible"):
        built(Alone(layer), vera(["layer"]))
