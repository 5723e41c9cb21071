"""What users draw: real modules, all that is promised, small where it fails, and fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given
from hypothesis.strategies import SearchStrategy
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.lora import (
    adapter_states,
    attention_layers,
    conv1d_layers,
    conv_layers,
    dtypes,
    embeddings,
    expert_parameters,
    linear_layers,
    tiny_models,
)
from pytest_ftcheck.lora.networks.network import Network
from pytest_ftcheck.lora.state import CONTENTS
from pytest_ftcheck.lora.strategies.cases import DTYPES
from pytest_ftcheck.lora.strategies.networks import NETWORKS

LAYERS = (linear_layers, conv1d_layers, embeddings, conv_layers, attention_layers, expert_parameters)
# Its deadline and its health checks are hypothesis's own, whatever profile is loaded here.
USUAL = hypothesis.settings(derandomize=True, database=None, deadline=200)
MANY = hypothesis.settings(USUAL, max_examples=200, phases=[Phase.generate], suppress_health_check=[*HealthCheck])


def drawn(strategy: SearchStrategy[Any], count: int = 200) -> list[Any]:
    """So many of them."""
    found = []
    hypothesis.settings(MANY, max_examples=count)(given(strategy)(lambda one: found.append(one)))()
    return found


def smallest(strategy: SearchStrategy[Any], fails: Callable[[Any], bool]) -> Any:
    return hypothesis.find(strategy, fails, settings=hypothesis.settings(MANY, phases=[*Phase]))


@pytest.mark.parametrize("layers", [*LAYERS, tiny_models, dtypes, adapter_states], ids=lambda one: one.__name__)
def test_no_health_check_and_no_deadline_fails(layers: Callable[[], SearchStrategy[Any]]) -> None:
    tried = []

    @USUAL
    @given(layers())
    def use(one: Any) -> None:
        tried.append(one)

    use()
    assert tried


@pytest.mark.parametrize("layers", LAYERS, ids=lambda one: one.__name__)
def test_a_layer_is_drawn_in_less_than_five_milliseconds(layers: Callable[[], SearchStrategy[Any]]) -> None:
    """Of this process alone, hypothesis's own part included: about 2 ms. The best of three: cores are shared."""
    strategy = layers()
    drawn(strategy, 10)
    assert min(seconds_of_one(strategy) for _ in range(3)) < 0.005


def seconds_of_one(strategy: SearchStrategy[Any]) -> float:
    """Of this process's own time, to draw one of many."""
    start = time.process_time()
    count = len(drawn(strategy, 60))
    assert count > 30
    return (time.process_time() - start) / count


@pytest.mark.parametrize("layers", LAYERS, ids=lambda one: one.__name__)
def test_the_dtypes_are_those_that_are_asked_for(layers: Any) -> None:
    assert {one.dtype for layer in drawn(layers()) for one in layer.parameters()} == {torch.float32}
    assert {one.dtype for layer in drawn(layers(DTYPES)) for one in layer.parameters()} == set(DTYPES)


@pytest.mark.parametrize("wrong", [(), "float32", ["float32"], torch.float32], ids=str)
def test_other_dtypes_are_refused_in_one_line(wrong: Any) -> None:
    with pytest.raises(RecipeError, match=r"dtypes is .*; allowed: a list of torch's dtypes, with at least one"):
        linear_layers(wrong)


def shapes_of(layer: Any) -> Iterator[Any]:
    """What is promised of it."""
    if isinstance(layer, nn.MultiheadAttention):
        yield from (("heads", layer.num_heads), ("bias", layer.in_proj_bias is not None), layer.batch_first)
    elif isinstance(layer, nn.Embedding):
        yield from (("vocabulary", layer.num_embeddings), ("padding", layer.padding_idx is not None))
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        yield type(layer)
        for name in ("kernel_size", "stride", "padding", "dilation"):
            yield name, getattr(layer, name)[0]
        yield from (("groups", layer.groups), ("bias", layer.bias is not None))
    elif isinstance(layer, Conv1D):
        yield from (("inputs", layer.weight.shape[0]), ("outputs", layer.nf))
    elif isinstance(layer, nn.Linear):
        yield from (("inputs", layer.in_features), ("outputs", layer.out_features), ("bias", layer.bias is not None))
    else:
        yield from (("experts", len(layer.weight)), ("transposed", layer.is_transposed))


def each(name: str, values: Any) -> set[Any]:
    return {(name, value) for value in values}


BIAS, WIDTHS = each("bias", (True, False)), range(1, 8)
PROMISED: dict[Any, set[Any]] = {
    linear_layers: each("inputs", WIDTHS) | each("outputs", WIDTHS) | BIAS,
    conv1d_layers: each("inputs", WIDTHS) | each("outputs", WIDTHS),
    embeddings: each("vocabulary", WIDTHS) | each("padding", (True, False)),
    conv_layers: {nn.Conv1d, nn.Conv2d, nn.Conv3d}
    | each("kernel_size", (1, 2, 3))
    | each("stride", (1, 2))
    | each("padding", (0, 1, 2))
    | each("dilation", (1, 2))
    | each("groups", (1, 2, 3))
    | BIAS,
    attention_layers: each("heads", (1, 2, 3)) | BIAS | {True},
    expert_parameters: each("experts", (2, 3, 4)) | each("transposed", (True, False)),
}


@pytest.mark.parametrize("layers", LAYERS, ids=lambda one: one.__name__)
def test_all_that_is_promised_is_in_200_draws_and_nothing_else(layers: Any) -> None:
    assert {shape for layer in drawn(layers()) for shape in shapes_of(layer)} == PROMISED[layers]


def test_every_architecture_is_in_200_draws() -> None:
    models = drawn(tiny_models())
    names = {type(model).__name__ for model in models}
    assert names == {
        *("LlamaForCausalLM", "GPT2LMHeadModel", "BertForSequenceClassification", "T5ForConditionalGeneration"),
        "MixtralForCausalLM",
    }
    assert {parameter.dtype for model in models for parameter in model.parameters()} == {torch.float32}


def test_every_dtype_and_every_content_is_in_200_draws() -> None:
    assert set(drawn(dtypes())) == set(DTYPES)
    assert {state.content for state in drawn(adapter_states())} == set(CONTENTS)


SMALLEST: list[tuple[SearchStrategy[Any], Callable[[Any], bool], str]] = [
    (linear_layers(), lambda layer: layer.out_features >= 3, "Linear(in_features=1, out_features=3, bias=False)"),
    (conv1d_layers(), lambda layer: layer.weight.shape[0] >= 2, "Conv1D(nf=1, nx=2)"),
    (embeddings(), lambda layer: layer.padding_idx is not None, "Embedding(1, 1, padding_idx=0)"),
    (
        conv_layers(),
        lambda layer: layer.groups > 1 and layer.stride[0] > 1,
        "Conv1d(2, 2, kernel_size=(1,), stride=(2,), groups=2, bias=False)",
    ),
    (expert_parameters(), lambda layer: True, "StackedExperts((2, 1, 1), is_transposed=True)"),
]


@pytest.mark.parametrize(("strategy", "fails", "expected"), SMALLEST, ids=[case[2] for case in SMALLEST])
def test_what_fails_shrinks_to_the_smallest_layer(strategy: Any, fails: Any, expected: str) -> None:
    assert repr(smallest(strategy, fails)) == expected


def test_attention_and_models_shrink_too() -> None:
    attention = smallest(attention_layers(), lambda layer: layer.num_heads >= 2)
    assert (attention.num_heads, attention.embed_dim, attention.in_proj_bias) == (2, 2, None)
    # What tiny_models builds: to build each of them takes most of the time.
    network = smallest(NETWORKS["model"], lambda network: network.layers == 2)
    assert network == Network("Llama", layers=2, width=8)


def test_the_same_weights_are_drawn_for_a_failing_example_again() -> None:
    first, second = (smallest(linear_layers(), lambda layer: layer.in_features > 2).weight for _ in range(2))
    assert torch.equal(first, second)
