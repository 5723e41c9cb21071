"""LoKr's two matrices are whole or of low rank, and split, as PEFT does it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoKrConfig
from peft.tuners.lokr.layer import factorization
from theory.built import Alone, assert_form_is_what_peft_builds, told_of
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Peft
from pytest_ftcheck.theory.forms.lokr import split
from pytest_ftcheck.theory.parameters import parameter_form


def lokr(targets: Any = ("layer",), r: int = 2, **settings: Any) -> Peft:
    return Peft(LoKrConfig(r=r, target_modules=list(targets) if isinstance(targets, tuple) else targets, **settings))


@pytest.mark.parametrize("factor", [-2, -1, 0, 1, 2, 3, 4, 6, 8, 16, 100, 400])
def test_numbers_are_split_as_peft_does(factor: int) -> None:
    assert [split(n, factor) for n in range(1, 300)] == [factorization(n, factor) for n in range(1, 300)]


EFFECTIVE, BOTH = {"use_effective_conv2d": True}, {"decompose_both": True}
# 48 = 6 · 8 and 30 = 5 · 6 in a Linear of 30 inputs and 48 outputs; 12 = 3 · 4 and 8 = 2 · 4 in a Conv2d.
LINEAR, CONV = nn.Linear(30, 48), nn.Conv2d(8, 12, (3, 2))
LAYERS: dict[str, tuple[nn.Module, dict[str, Any], int]] = {
    "factors on the right": (LINEAR, {}, 6 * 5 + 2 * (8 + 6)),
    "whole from half the longer side on": (LINEAR, {"r": 4}, 6 * 5 + 8 * 6),
    "just below it": (LINEAR, {"r": 3}, 6 * 5 + 3 * (8 + 6)),
    "factors on both sides": (LINEAR, BOTH, 2 * (6 + 5) + 2 * (8 + 6)),
    "factors on the right alone": (LINEAR, {**BOTH, "r": 3}, 6 * 5 + 3 * (8 + 6)),
    "a factor given": (LINEAR, {"decompose_factor": 2}, 2 * 2 + 2 * (24 + 15)),
    "a factor that does not divide": (LINEAR, {"decompose_factor": 4}, 4 * 3 + 2 * (12 + 10)),
    "Conv2d": (nn.Conv2d(8, 12, (3, 2)), {"r": 1}, 3 * 2 + 1 * (4 + 4 * 6)),
    "Conv2d, whole": (CONV, {"r": 2}, 3 * 2 + 4 * 4 * 6),
    "Conv2d with a core": (CONV, {"r": 1, **EFFECTIVE}, 3 * 2 + 1 * (4 + 4) + 1 * 6),
    "Conv2d of 1 x 1": (nn.Conv2d(8, 12, 1), {"r": 1, **EFFECTIVE}, 3 * 2 + 1 * (4 + 4)),
    "grouped Conv2d": (nn.Conv2d(8, 12, 3, groups=2), {"r": 1}, 3 * 2 + 1 * (4 + 2 * 9)),
    "Conv1d with a core": (nn.Conv1d(8, 12, 5), {"r": 1, **EFFECTIVE}, 3 * 2 + 1 * (4 + 4) + 1 * 5),
    "rank_pattern": (LINEAR, {"rank_pattern": {"layer": 1}}, 6 * 5 + 1 * (8 + 6)),
    "dropout counts nothing": (LINEAR, {"rank_dropout": 0.5, "rank_dropout_scale": True}, 6 * 5 + 2 * (8 + 6)),
}


@pytest.mark.parametrize(("layer", "settings", "trainable"), LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_its_closed_form(layer: nn.Module, settings: dict[str, Any], trainable: int) -> None:
    assert assert_form_is_what_peft_builds(Alone(layer), lokr(**settings)).trainable == trainable


@given(
    layer=st.one_of(
        st.builds(nn.Linear, st.integers(1, 40), st.integers(1, 40)),
        st.builds(lambda i, o, k: nn.Conv1d(i, o, k), st.integers(1, 20), st.integers(1, 20), st.integers(1, 3)),
        st.builds(
            lambda i, o, k, groups: nn.Conv2d(2 * i, 2 * o, k, groups=groups),
            *(st.integers(1, 10), st.integers(1, 10), st.tuples(st.integers(1, 3), st.integers(1, 3))),
            st.integers(1, 2),
        ),
    ),
    r=st.integers(1, 12),
    factor=st.sampled_from([-1, 2, 3, 4, 8, 20]),
    both=st.booleans(),
    effective=st.booleans(),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_layers_of_all_shapes(layer: nn.Module, r: int, factor: int, both: bool, effective: bool) -> None:
    method = lokr(r=r, decompose_factor=factor, decompose_both=both, use_effective_conv2d=effective)
    assert_form_is_what_peft_builds(Alone(layer), method)


NETWORKS = {
    "PEFT's defaults": lokr(None),
    "all-linear": lokr("all-linear", **BOTH),
    "ranks by layer": lokr(["q_proj", "up_proj"], 1, rank_pattern={r"layers\.0\..*": 2, "up_proj": 5}),
    "copies": lokr(["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
}


@pytest.mark.parametrize("method", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_module_has_what_peft_gives_it(method: Peft) -> None:
    config = LlamaConfig(
        vocab_size=17, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2, head_dim=12
    )
    assert_form_is_what_peft_builds(LlamaForCausalLM(config), method)


def test_a_tied_head_has_an_adapter_of_its_own(small: nn.Module) -> None:
    assert_form_is_what_peft_builds(small, lokr(["lm_head"]))


OTHERWISE = {
    "another rank": (lokr(), lokr(r=3), "rank 3 instead of 2"),
    "a rank that makes a matrix whole": (lokr(), lokr(r=9), "rank 4 or more instead of 2"),
    "a rank below": (lokr(r=9, **BOTH), lokr(r=1, **BOTH), "rank 1 instead of 9"),
    "both decomposed": (lokr(), lokr(**BOTH), "no rank gives this size"),
    "another factor": (lokr(), lokr(decompose_factor=2), "no rank gives this size"),
}


@pytest.mark.parametrize(("declared", "otherwise", "cause"), OTHERWISE.values(), ids=OTHERWISE.keys())
def test_what_was_built_otherwise_is_told(declared: Peft, otherwise: Peft, cause: str) -> None:
    assert told_of(Alone(nn.Linear(30, 48)), declared, otherwise) == {"layer": cause}


def test_ranks_that_build_the_same_are_no_departure() -> None:
    assert told_of(Alone(nn.Linear(30, 48)), lokr(r=4), lokr(r=40)) == {}


def test_an_embedding_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"LoKr cannot adapt layer, a Embedding; allowed: Linear, Conv1d, Conv2d"):
        parameter_form(Alone(nn.Embedding(5, 4)), lokr())
