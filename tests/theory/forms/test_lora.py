"""LoRA beyond the plain layer: settings that change the counts, and settings that must not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theory.built import Alone, assert_form_is_what_peft_builds, form_of
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from pytest_ftcheck.methods import LoRA

UNCHANGED: dict[str, dict[str, Any]] = {
    "aLoRA": {"options": {"alora_invocation_tokens": [1]}},
    "rsLoRA": {"use_rslora": True},
    "OLoRA": {"init": "olora"},
    "random factors": {"init": False},
    "orthogonal": {"init": "orthogonal"},
    "dropout": {"dropout": 0.5},
}


@pytest.mark.parametrize("settings", UNCHANGED.values(), ids=UNCHANGED.keys())
def test_settings_that_count_nothing(settings: dict[str, Any]) -> None:
    method = LoRA(r=4, target_modules=["layer"], **settings)
    assert assert_form_is_what_peft_builds(Alone(nn.Linear(6, 10)), method).trainable == 4 * 16


ATTENTION: dict[str, tuple[dict[str, Any], int]] = {
    "plain": ({}, 4 * (6 + 18) + 4 * (6 + 6)),
    "a rank of its own": ({"rank_pattern": {"layer": 2}}, 2 * 36),
    # The packed bias is called in_proj_bias, which PEFT takes for none.
    "bias all": ({"bias": "all"}, 4 * 36 + 6 + 4),
}


@pytest.mark.parametrize(("settings", "trainable"), ATTENTION.values(), ids=ATTENTION.keys())
def test_attention_is_two_layers(settings: dict[str, Any], trainable: int) -> None:
    method = LoRA(r=4, target_modules=["layer"], **settings)
    assert assert_form_is_what_peft_builds(Alone(nn.MultiheadAttention(6, 2)), method).trainable == trainable


def test_the_output_projection_of_attention_alone() -> None:
    method = LoRA(r=4, target_modules=["out_proj"])
    assert assert_form_is_what_peft_builds(Alone(nn.MultiheadAttention(6, 2)), method).trainable == 4 * 12


def test_notes_name_the_kind_of_layer_that_peft_takes_it_for() -> None:
    form = form_of(Alone(nn.MultiheadAttention(6, 2)), LoRA(r=4, target_modules=["layer"]))
    notes = {module.name: module.note for module in form.modules}
    assert notes["layer"] == "r=4 on MultiheadAttention 6x18"
    assert notes["layer.out_proj"] == "r=4 on Linear 6x6"


@given(
    r=st.integers(1, 6),
    targets=st.lists(
        st.sampled_from(["c_attn", "c_fc", "c_proj", "mlp.c_proj", "wte", "wpe", "lm_head"]), min_size=1, unique=True
    ),
    saved=st.sampled_from([[], ["ln_f"], ["h.1"], ["ln_f", "h.1.ln_1"]]),
    bias=st.sampled_from(["none", "all", "lora_only"]),
    dora=st.booleans(),
    pattern=st.dictionaries(st.sampled_from(["c_attn", r"h\.0\..*", "wte"]), st.integers(1, 4)),
    layers=st.sampled_from([None, 0, [1]]),
    tied=st.booleans(),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_declarations_of_all_kinds(
    r: int, targets: list[str], saved: list[str], bias: str, dora: bool, pattern: Any, layers: Any, tied: bool
) -> None:
    config = GPT2Config(vocab_size=17, n_positions=8, n_embd=12, n_layer=2, n_head=2, tie_word_embeddings=tied)
    method = LoRA(
        r=r,
        target_modules=[*targets, "transformer.h.0.attn.c_attn"],
        modules_to_save=saved,
        bias=bias,
        use_dora=dora,
        rank_pattern=pattern,
        options={} if layers is None else {"layers_to_transform": layers},
    )
    assert_form_is_what_peft_builds(GPT2LMHeadModel(config), method)
