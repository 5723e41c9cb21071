"""LoHa's four factors, and the cores that stand for a kernel, are what PEFT builds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoHaConfig
from theory.built import Alone, assert_form_is_what_peft_builds, built, told_of
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Peft
from pytest_ftcheck.theory.parameters import parameter_form


def loha(targets: Any, r: int = 3, **settings: Any) -> Peft:
    return Peft(LoHaConfig(r=r, target_modules=targets, **settings))


EFFECTIVE = {"use_effective_conv2d": True}
LAYERS: dict[str, tuple[nn.Module, dict[str, Any], int]] = {
    "Linear": (nn.Linear(6, 10), {}, 2 * 3 * (6 + 10)),
    "Linear has no kernel": (nn.Linear(6, 10), EFFECTIVE, 2 * 3 * (6 + 10)),
    "Conv1d": (nn.Conv1d(4, 6, 5), {}, 2 * 3 * (4 * 5 + 6)),
    "Conv1d with cores": (nn.Conv1d(4, 6, 5), EFFECTIVE, 2 * (3 * (4 + 6) + 9 * 5)),
    "Conv2d": (nn.Conv2d(4, 6, (3, 5)), {}, 2 * 3 * (4 * 15 + 6)),
    "Conv2d with cores": (nn.Conv2d(4, 6, (3, 5)), EFFECTIVE, 2 * (3 * (4 + 6) + 9 * 15)),
    "Conv2d of 1 x 1": (nn.Conv2d(4, 6, 1), EFFECTIVE, 2 * 3 * (4 + 6)),
    "grouped Conv2d": (nn.Conv2d(4, 6, 3, groups=2), {}, 2 * 3 * (2 * 9 + 6)),
    "grouped Conv2d with cores": (nn.Conv2d(4, 6, 3, groups=2), EFFECTIVE, 2 * (3 * (2 + 6) + 9 * 9)),
    "rank_pattern": (nn.Linear(6, 10), {"rank_pattern": {"lay.r": 2}}, 2 * 2 * (6 + 10)),
    "dropout counts nothing": (nn.Linear(6, 10), {"rank_dropout": 0.5, "module_dropout": 0.5}, 2 * 3 * (6 + 10)),
}


@pytest.mark.parametrize(("layer", "settings", "trainable"), LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_its_closed_form(layer: nn.Module, settings: dict[str, Any], trainable: int) -> None:
    assert assert_form_is_what_peft_builds(Alone(layer), loha(["layer"], **settings)).trainable == trainable


@given(
    r=st.integers(1, 12),
    channels=st.sampled_from([(2, 4), (4, 2), (6, 8), (8, 6)]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.integers(1, 2),
    effective=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_convolutions_of_all_shapes(
    r: int, channels: tuple[int, int], kernel: tuple[int, int], groups: int, effective: bool
) -> None:
    layer = nn.Conv2d(*channels, kernel, groups=groups)
    assert_form_is_what_peft_builds(Alone(layer), loha(["layer"], r, use_effective_conv2d=effective))


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=17, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, head_dim=4
        )
    )


NETWORKS = {
    "PEFT's defaults": loha(None),
    "all-linear": loha("all-linear"),
    "ranks by layer": loha(["q_proj", "up_proj"], rank_pattern={r"layers\.0\..*": 2, "up_proj": 5}),
    "copies": loha(["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "one layer": loha(["q_proj"], layers_to_transform=[1]),
}


@pytest.mark.parametrize("method", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_module_has_what_peft_gives_it(method: Peft) -> None:
    assert_form_is_what_peft_builds(llama(), method)


def test_a_tied_head_has_an_adapter_of_its_own(small: nn.Module) -> None:
    assert_form_is_what_peft_builds(small, loha(["lm_head"]))


@pytest.mark.parametrize("settings", [{}, EFFECTIVE], ids=["factors", "cores"])
def test_another_rank_is_told(settings: dict[str, Any]) -> None:
    told = told_of(Alone(nn.Conv2d(4, 6, 3)), loha(["layer"], **settings), loha(["layer"], r=7, **settings))
    assert told == {"layer": "rank 7 instead of 3"}


def test_cores_that_were_not_declared_are_told() -> None:
    told = told_of(Alone(nn.Conv2d(4, 6, 3)), loha(["layer"]), loha(["layer"], **EFFECTIVE))
    assert told == {"layer": "no rank gives this size"}


def test_the_linear_layer_of_gpt2_is_refused_as_peft_does() -> None:
    with pytest.raises(RecipeError, match=r"LoHa cannot adapt layer, a Conv1D; allowed: Linear, Conv1d, Conv2d"):
        parameter_form(Alone(Conv1D(10, 6)), loha(["layer"]))
    with pytest.raises(TypeError, match="not supported"):
        built(Alone(Conv1D(10, 6)), loha(["layer"]))
