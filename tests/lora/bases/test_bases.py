"""Each kind of layer computes what its closed form says, and its factors fit."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_ftcheck.lora.bases.random import normal
from pytest_ftcheck.lora.strategies.bases import BASES

DRAWN = st.sampled_from(sorted(BASES)).flatmap(lambda kind: BASES[kind])
SEEDS = st.integers(0, 99)
SHORT = hypothesis.settings(max_examples=60, derandomize=True, database=None, deadline=None)


@SHORT
@given(form=DRAWN, seed=SEEDS)
def test_a_layer_is_linear_in_its_dense_weight(form: Any, seed: int) -> None:
    layer, x = form.build(torch.float64, seed), form.inputs((2,), torch.float64, seed)
    expected = layer(x)
    observed = form.apply(form.dense(form.weight(layer)), form.bias(layer), x)
    torch.testing.assert_close(observed, expected)


@SHORT
@given(form=DRAWN, seed=SEEDS)
def test_delta_has_the_shape_of_the_dense_weight(form: Any, seed: int) -> None:
    a, b = (normal(shape, torch.float64, seed) for shape in form.shapes(2 * form.groups))
    assert form.delta(a, b).shape == form.dense(form.weight(form.build(torch.float64, seed))).shape


@SHORT
@given(form=DRAWN, seed=SEEDS)
def test_the_same_seed_gives_the_same_numbers_in_every_precision(form: Any, seed: int) -> None:
    precise, half = (form.weight(form.build(dtype, seed)) for dtype in (torch.float64, torch.bfloat16))
    assert torch.equal(precise.bfloat16(), half)
    other = form.weight(form.build(torch.float64, seed + 1))
    assert not torch.equal(precise, other)


@pytest.mark.parametrize("kind", BASES)
def test_no_number_of_a_layer_is_zero(kind: str) -> None:
    """A bias, or a padding token's row, of zeros would hide what is done to it."""
    simplest = hypothesis.find(BASES[kind], lambda form: True, settings=SHORT)
    assert all(parameter.all() for parameter in simplest.build(torch.float32, 0).parameters())
