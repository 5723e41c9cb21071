"""Closed forms of floating-point operations, held to what a real training and a prediction count: to the operation."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from pytest_ftcheck import Full, LoRA, Peft
from pytest_ftcheck.building import build_job
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.execution import train_job
from pytest_ftcheck.methods import Method
from pytest_ftcheck.observers.events import Events
from pytest_ftcheck.observers.flops import flops_of_update
from pytest_ftcheck.observers.memory import LiveBytes, MemoryWatch
from pytest_ftcheck.predict import predict_training
from pytest_ftcheck.predict.workload import Workload
from pytest_ftcheck.run import Flops
from pytest_ftcheck.theory.flops import FlopsForm, flops_form

TOKENS: dict[str, Any] = dict(vocab_size=97, bos_token_id=0, eos_token_id=0)
# The CPU's fused attention knows no dropout, so it is left out of these.
GPT2: dict[str, Any] = dict(TOKENS, n_positions=16, n_embd=24, n_layer=2, n_head=3, attn_pdrop=0.0)
LLAMA: dict[str, Any] = dict(
    TOKENS,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=16,
)
MODELS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2, no dropout": GPT2Config(**GPT2, resid_pdrop=0.0),
    "gpt2, untied": GPT2Config(**GPT2, tie_word_embeddings=False),
    "llama": LlamaConfig(**LLAMA),
    "llama, tied, wide heads": LlamaConfig(**LLAMA, tie_word_embeddings=True, head_dim=8),
    "mistral": MistralConfig(**LLAMA),
    "qwen2": Qwen2Config(**LLAMA),
    "qwen3": Qwen3Config(**LLAMA, head_dim=8),
    "gemma": GemmaConfig(**LLAMA, head_dim=8),
}
SHAPE = {"batch_size": 2, "sequence_length": 8}


def without_weights(config: PretrainedConfig) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
    return model


@functools.cache
def meta(name: str) -> nn.Module:
    return without_weights(MODELS[name])


def measured(config: PretrainedConfig, method: Method, folder: Path, **step: Any) -> Flops:
    """What a real training on the CPU does in its second update, in the loop that predictions carry out."""
    work = Workload(model=config, method=method, **{**SHAPE, **step})
    kind = {"attn_implementation": work.attention}
    recipe = work.recipe().replace(model=lambda: AutoModelForCausalLM.from_config(config, **kind))
    job, _ = build_job(recipe, work.method_name, 0, 2, "cpu", folder)
    log = LiveBytes("cpu")
    with Events([MemoryWatch(log)]).listening() as events, log:
        train_job(job, work.method_name, events, lambda: log.update)
    return flops_of_update(log.flops, 1)


def form_of(name: str, method: Method, **step: Any) -> FlopsForm:
    return flops_form(meta(name), method, **{**SHAPE, **step})


ALL = "all-linear"
GPT2_METHODS: dict[str, Method] = {
    "full": Full(),
    "full, head and embedding frozen": Full(frozen=["wte"]),
    "full, embeddings frozen": Full(frozen=["wte", "wpe"]),
    "full, first block frozen": Full(frozen=["wte", "wpe", "h.0"]),
    "full, one weight trains by its bias": Full(frozen=["wte", "wpe", "h.0", "h.1.attn.c_attn.weight"]),
    "full, biases frozen": Full(frozen=["wte", "wpe", "bias", "ln_1"]),
    "full, attention frozen": Full(frozen=["attn"]),
    "full, only the norm behind the blocks": Full(frozen=["wte", "wpe", "h"]),
    "lora attention": LoRA(r=2, target_modules=["c_attn"]),
    "lora all-linear": LoRA(r=2, target_modules=ALL, dropout=0.1),
    "lora projections": LoRA(r=1, target_modules=["c_proj"]),
    "lora in one block": LoRA(
        r=3, target_modules=["c_attn", "c_fc"], rank_pattern={"c_fc": 5}, options={"layers_to_transform": [1]}
    ),
    "lora and a norm": LoRA(r=2, target_modules=["c_attn"], modules_to_save=["h.0.ln_1"]),
    "lora and a head": LoRA(r=2, target_modules=["c_attn"], modules_to_save=["lm_head"]),
    "lora and an embedding": LoRA(r=2, target_modules=["c_attn"], modules_to_save=["wte"]),
    "lora and positions": LoRA(r=2, target_modules=["c_attn"], modules_to_save=["wpe"]),
    "lora on the head and a norm": LoRA(r=2, target_modules=["lm_head"], modules_to_save=["h.1.ln_2"]),
    "lora and biases": LoRA(r=2, target_modules=["c_attn"], bias="all"),
    "lora on the embedding": LoRA(r=2, target_modules=["wte", "c_attn"]),
    "lora on the head": LoRA(r=2, target_modules=["c_attn", "lm_head"]),
    "dora": LoRA(r=2, target_modules=ALL, use_dora=True),
    "dora with dropout": LoRA(r=2, target_modules=ALL, use_dora=True, dropout=0.1),
    "peft": Peft(LoraConfig(r=2, target_modules=["c_attn"], use_dora=True, fan_in_fan_out=True)),
}
LLAMA_METHODS: dict[str, Method] = {
    "full": Full(),
    "full, embeddings frozen": Full(frozen=["embed_tokens"]),
    "full, queries frozen": Full(frozen=["embed_tokens", "q_proj", "input_layernorm"]),
    "full, keys frozen": Full(frozen=["embed_tokens", "k_proj", "input_layernorm"]),
    "lora q v": LoRA(r=2, target_modules=["q_proj", "v_proj"]),
    "lora v": LoRA(r=2, target_modules=["v_proj"]),
    "lora o": LoRA(r=2, target_modules=["o_proj"]),
    "lora up": LoRA(r=2, target_modules=["up_proj"]),
    "lora down": LoRA(r=2, target_modules=["down_proj"]),
    "lora all-linear": LoRA(r=2, target_modules=ALL, use_rslora=True, bias="all", options={"lora_bias": True}),
    "dora with dropout": LoRA(r=2, target_modules=ALL, use_dora=True, dropout=0.1),
}
STEPS: dict[str, dict[str, Any]] = {
    "sdpa": {},
    "eager": {"attention": "eager", "accumulation": 2},
    "checkpointing": {"gradient_checkpointing": True},
    "eager and checkpointing": {"attention": "eager", "gradient_checkpointing": True},
}
GRID = [
    *[("gpt2", method, "sdpa") for method in GPT2_METHODS],
    *[
        ("gpt2", method, "checkpointing")
        for method in (
            "full",
            "full, first block frozen",
            "lora all-linear",
            "lora in one block",
            "lora on the embedding",
        )
    ],
    *[
        ("gpt2, no dropout", method, "checkpointing")
        for method in ("full", "lora attention", "lora all-linear", "dora")
    ],
    *[("gpt2, untied", method, "eager") for method in ("full", "full, head and embedding frozen", "lora attention")],
    *[("llama", method, "eager") for method in LLAMA_METHODS],
    *[("llama", method, "sdpa") for method in ("full", "lora v")],
    *[("llama", method, "checkpointing") for method in ("full", "lora down", "dora with dropout")],
    *[("llama", method, "eager and checkpointing") for method in ("lora q v", "lora all-linear")],
    *[(name, "full", "sdpa") for name in ("llama, tied, wide heads", "mistral", "qwen2", "qwen3", "gemma")],
    *[("qwen3", "full, queries frozen", "eager"), ("qwen3", "full, keys frozen", "eager")],
    *[("gemma", "lora all-linear", "checkpointing"), ("llama, tied, wide heads", "lora q v", "sdpa")],
]


@pytest.mark.parametrize(("name", "method", "step"), GRID, ids=["-".join(cell) for cell in GRID])
def test_the_form_is_what_a_training_does(name: str, method: str, step: str, tmp_path: Path) -> None:
    how = (GPT2_METHODS if name.startswith("gpt2") else LLAMA_METHODS)[method]
    assert form_of(name, how, **STEPS[step]).flops == measured(MODELS[name], how, tmp_path, **STEPS[step])


@pytest.mark.parametrize(("name", "checkpointing"), [("gpt2", True), ("llama, tied, wide heads", False)])
def test_the_form_is_what_is_predicted_for_a_gpu(name: str, checkpointing: bool) -> None:
    method = LoRA(r=2, target_modules=ALL)
    prediction = predict_training(
        model=MODELS[name], method=method, dtype="bfloat16", gradient_checkpointing=checkpointing, **SHAPE
    )
    assert form_of(name, method, gradient_checkpointing=checkpointing).flops == prediction.flops


# The textbook's formulas, and GPT-2 at its real size.

REAL = {"batch_size": 4, "sequence_length": 128}
T = 4 * 128
# Matrices of GPT-2: 12 blocks of 12 d², and the head of d times the vocabulary (which is the embedding).
N = 12 * 12 * 768**2 + 768 * 50257
ATTENTION = 4 * 12 * 4 * 128**2 * 768
C_ATTN = LoRA(r=8, target_modules=["c_attn"])
ADAPTERS = 12 * 8 * (768 + 3 * 768)


@functools.cache
def real_form(method_name: str, checkpointing: bool) -> FlopsForm:
    model = without_weights(GPT2Config())
    return flops_form(model, REAL_METHODS[method_name], gradient_checkpointing=checkpointing, **REAL)


REAL_METHODS: dict[str, Method] = {
    "full": Full(),
    "lora": C_ATTN,
    "lora and a norm": dataclasses.replace(C_ATTN, modules_to_save=["transformer.h.0.ln_1"]),
}


@functools.cache
def real_prediction(method_name: str, checkpointing: bool) -> Flops:
    return predict_training(
        model=GPT2Config(), method=REAL_METHODS[method_name], gradient_checkpointing=checkpointing, **REAL
    ).flops


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_form_of_gpt2_is_what_is_predicted(method: str, checkpointing: bool) -> None:
    assert real_form(method, checkpointing).flops == real_prediction(method, checkpointing)


def test_full_fine_tuning_takes_six_operations_for_each_weight_and_token() -> None:
    form = real_form("full", False)
    assert form.forward == 2 * N * T + ATTENTION == 128_912_719_872
    assert form.backward == 4 * N * T + ATTENTION * 5 // 2
    assert form.flops.total == 387_946_119_168


def test_lora_spares_the_gradients_of_frozen_weights_and_what_lies_below_the_first_adapter() -> None:
    form = real_form("lora", False)
    assert form.forward == 2 * N * T + ATTENTION + 2 * ADAPTERS * T
    below = 2 * T * 768 * 3 * 768 + 2 * T * 768 * 8
    assert form.backward == 2 * N * T + ATTENTION * 5 // 2 + 4 * ADAPTERS * T - below


def test_checkpointing_computes_the_blocks_once_more() -> None:
    blocks = 2 * (N - 768 * 50257) * T + ATTENTION
    for method, adapters in (("full", 0), ("lora", 2 * ADAPTERS * T)):
        plain, again = real_form(method, False), real_form(method, True)
        assert again.forward == plain.forward
        assert again.parts["recomputed"] == Flops(0, blocks + adapters)


@pytest.mark.parametrize(("checkpointing", "ratio"), [(False, 1.489), (True, 1.356)])
def test_full_takes_less_than_half_as_much_again_as_lora(checkpointing: bool, ratio: float) -> None:
    full, lora = (real_prediction(method, checkpointing).total for method in ("full", "lora"))
    assert round(full / lora, 3) == ratio


def test_one_trained_norm_in_the_first_block_is_seen_and_is_what_the_form_says() -> None:
    predicted = real_prediction("lora and a norm", False).total - real_prediction("lora", False).total
    # dX of the first c_attn, and of its lora_A.
    assert predicted == 2 * T * 768 * 3 * 768 + 2 * T * 768 * 8 == 1_818_230_784
    assert predicted == real_form("lora and a norm", False).flops.total - real_form("lora", False).flops.total


# What the form is made of.


def test_the_parts_add_up() -> None:
    form = form_of("gpt2", GPT2_METHODS["lora attention"], gradient_checkpointing=True)
    assert sorted(form.parts) == ["adapters", "attention", "head", "layers", "recomputed"]
    assert form.flops == Flops(form.forward, form.backward)
    assert form.parts["head"] == Flops(2 * 16 * 24 * 97, 2 * 16 * 24 * 97)
    assert FlopsForm.from_json(form.to_json()) == form


@pytest.mark.parametrize("method", ["full", "lora all-linear"])
def test_a_larger_batch_takes_so_much_more_and_a_longer_one_more_than_that(method: str) -> None:
    once = form_of("llama", LLAMA_METHODS[method]).flops.total
    assert form_of("llama", LLAMA_METHODS[method], batch_size=6).flops.total == 3 * once
    assert form_of("llama", LLAMA_METHODS[method], accumulation=3).flops.total == 3 * once
    assert form_of("llama", LLAMA_METHODS[method], sequence_length=24).flops.total > 3 * once


# What there is no closed form for.


def refused(model: nn.Module, method: Method = C_ATTN, **step: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        flops_form(model, method, **{**SHAPE, **step})
    return str(caught.value)


def test_another_architecture_is_named() -> None:
    model = without_weights(
        BertConfig(**TOKENS, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, is_decoder=True)
    )
    assert refused(model) == (
        "FLOPs: no closed form for a model of type 'bert'; allowed: gpt2, llama, mistral, qwen2, gemma, qwen3"
    )
    assert "of type None" in refused(nn.Linear(2, 2))


def test_a_layer_that_no_decoder_of_its_type_has_is_named(classifier: nn.Module) -> None:
    assert refused(classifier) == (
        "FLOPs: no closed form for this GPT2ForSequenceClassification: it lacks lm_head; "
        "allowed: the language model of a 'gpt2' configuration"
    )
    crossed = without_weights(GPT2Config(**GPT2, add_cross_attention=True))
    assert "GPT2LMHeadModel: it has transformer.h.0.crossattention.c_attn;" in refused(crossed)


@pytest.mark.parametrize(
    "method",
    [
        Peft(IA3Config(target_modules=["c_attn"], feedforward_modules=[])),
        LoRA(r=2, target_modules=["c_attn"], options={"alora_invocation_tokens": [1]}),
        Peft(LoraConfig(r=2, target_modules=["c_attn"], alora_invocation_tokens=[1])),
        LoRA(r=2, target_modules=["c_attn"], options={"target_parameters": ["x"]}),
    ],
    ids=["IA3", "aLoRA", "aLoRA as Peft", "parameters"],
)
def test_a_method_without_a_closed_form_is_named(small: nn.Module, method: Method) -> None:
    assert refused(small, method).startswith(f"FLOPs: no closed form for {method.label}; allowed: Full(...), ")


def test_dora_on_an_embedding_is_named(small: nn.Module) -> None:
    text = refused(small, LoRA(r=2, target_modules=["wte", "c_attn"], use_dora=True))
    assert text.startswith("FLOPs: no closed form for DoRA on an embedding (transformer.wte); allowed: ")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("batch_size", 0, "a whole number of at least 1"),
        ("sequence_length", 1.5, "a whole number of at least 1"),
        ("accumulation", True, "a whole number of at least 1"),
        ("attention", "flash", "sdpa, eager"),
    ],
)
def test_a_step_that_cannot_be_is_refused(small: nn.Module, name: str, value: object, allowed: str) -> None:
    assert refused(small, **{name: value}) == f"{name} is {value!r}; allowed: {allowed}"


def test_a_target_that_is_not_there_is_named(small: nn.Module) -> None:
    assert "'c_atn' (closest: 'c_attn'" in refused(small, LoRA(target_modules=["c_atn"]))
