"""The closed forms are what PEFT really builds: in all, and in every module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import BOFTConfig, LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model
from theory.built import Alone, assert_form_is_what_peft_builds, form_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Full, LoRA, Peft
from pytest_ftcheck.theory.differences import observed_modules
from pytest_ftcheck.theory.parameters import ParameterForm, base_name, frozen_names, parameter_form

WTE = 50257 * 768


# Trainable and all parameters of GPT-2, counted by hand (c_attn is 768 x 2304 in twelve blocks).
GPT2_NUMBERS = {
    "r8": (LoRA(r=8, target_modules=["c_attn"]), 294_912, 124_734_720),
    "default targets": (LoRA(r=8), 294_912, 124_734_720),
    "r4": (LoRA(r=4, target_modules=["c_attn"]), 147_456, 124_587_264),
    "c_proj is two": (LoRA(r=8, target_modules=["c_attn", "c_proj"]), 811_008, 125_250_816),
    "all-linear": (LoRA(r=8, target_modules="all-linear"), 1_179_648, 125_619_456),
    "lm_head copied": (LoRA(target_modules=["c_attn"], modules_to_save=["lm_head"]), 294_912 + WTE, 163_332_096),
    "wte copied": (LoRA(target_modules=["c_attn"], modules_to_save=["wte"]), 294_912 + WTE, 163_332_096),
    "bias lora_only": (LoRA(target_modules=["c_attn"], bias="lora_only"), 322_560, 124_734_720),
    "bias all": (LoRA(target_modules=["c_attn"], bias="all"), 397_056, 124_734_720),
    "DoRA": (LoRA(target_modules=["c_attn"], use_dora=True), 294_912 + 12 * 2304, 124_734_720 + 12 * 2304),
}


@pytest.mark.parametrize(("method", "trainable", "total"), GPT2_NUMBERS.values(), ids=GPT2_NUMBERS.keys())
def test_gpt2_has_the_known_counts(gpt2: nn.Module, method: LoRA, trainable: int, total: int) -> None:
    form = assert_form_is_what_peft_builds(gpt2, method)
    assert (form.trainable, form.total, form.frozen) == (trainable, total, total - trainable)


LAYERS: dict[str, tuple[nn.Module, dict[str, Any], int]] = {
    "Linear": (nn.Linear(6, 10), {}, 4 * (6 + 10)),
    "Conv1D of transformers": (Conv1D(10, 6), {}, 4 * (6 + 10)),
    "Embedding": (nn.Embedding(11, 6), {}, 4 * (11 + 6)),
    "Conv1d": (nn.Conv1d(4, 6, 5), {}, 4 * (4 * 5 + 6)),
    "Conv2d": (nn.Conv2d(4, 6, (3, 5)), {}, 4 * (4 * 15 + 6)),
    "Conv3d": (nn.Conv3d(4, 6, 3), {}, 4 * (4 * 27 + 6)),
    "grouped Conv2d": (nn.Conv2d(4, 6, 3, groups=2), {}, 4 * 4 * 9 + 6 * 4 // 2),
    "depthwise Conv2d": (nn.Conv2d(4, 4, 3, groups=4), {}, 4 * 4 * 9 + 4),
    "MultiheadAttention": (nn.MultiheadAttention(6, 2), {}, 4 * (6 + 18) + 4 * (6 + 6)),
    "DoRA on Linear": (nn.Linear(6, 10), {"use_dora": True}, 4 * 16 + 10),
    "DoRA on Conv2d": (nn.Conv2d(4, 6, 3), {"use_dora": True}, 4 * (36 + 6) + 6),
    "DoRA on Embedding": (nn.Embedding(11, 6), {"use_dora": True}, 4 * 17 + 6),
    "lora_bias": (nn.Linear(6, 10), {"options": {"lora_bias": True}}, 4 * 16 + 10),
    "bias lora_only": (nn.Linear(6, 10), {"bias": "lora_only"}, 4 * 16 + 10),
    "bias lora_only, none there": (nn.Linear(6, 10, bias=False), {"bias": "lora_only"}, 4 * 16),
    "bias lora_only on MultiheadAttention": (nn.MultiheadAttention(6, 2), {"bias": "lora_only"}, 4 * 36 + 6),
    "bias all": (nn.Linear(6, 10), {"bias": "all"}, 4 * 16 + 10 + 4),
    "PiSSA": (nn.Linear(6, 10), {"init": "pissa"}, 4 * 16),
    "rank_pattern": (nn.Linear(6, 10), {"rank_pattern": {"lay.r": 3}}, 3 * 16),
}


@pytest.mark.parametrize(("layer", "settings", "trainable"), LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_its_closed_form(layer: nn.Module, settings: dict[str, Any], trainable: int) -> None:
    method = LoRA(r=4, target_modules=["layer"], **settings)
    assert assert_form_is_what_peft_builds(Alone(layer), method).trainable == trainable


SMALL = {
    "tied embedding": LoRA(target_modules=["wte"]),
    "tied head": LoRA(target_modules=["lm_head"]),
    "both copied": LoRA(target_modules=["c_attn"], modules_to_save=["lm_head", "wte"]),
    "a block copied": LoRA(target_modules=["c_attn"], modules_to_save=["h.1"]),
    "a copy with biases": LoRA(target_modules=["c_attn"], modules_to_save=["ln_f"], bias="all"),
    "ranks by layer": LoRA(target_modules="all-linear", rank_pattern={r"h\.0\..*": 2, "c_fc": 5}),
    "one layer": LoRA(target_modules=["c_attn"], options={"layers_to_transform": [1]}),
}


@pytest.mark.parametrize("method", SMALL.values(), ids=SMALL.keys())
def test_each_module_has_what_peft_gives_it(small: nn.Module, method: LoRA) -> None:
    assert_form_is_what_peft_builds(small, method)


@pytest.mark.parametrize("task_type", ["SEQ_CLS", "TOKEN_CLS"])
def test_a_task_type_with_a_head_trains_a_copy_of_it(classifier: nn.Module, task_type: str) -> None:
    form = assert_form_is_what_peft_builds(classifier, LoRA(r=2, target_modules=["c_attn"], task_type=task_type))
    assert form.trainable == 2 * 2 * (12 + 36) + 12 * 3


def test_notes_say_what_trains_in_a_module(small: nn.Module) -> None:
    form = form_of(small, LoRA(r=8, target_modules=["c_attn"], bias="all", modules_to_save=["wpe"]))
    notes = {module.name: module.note for module in form.modules}
    assert notes["transformer.h.0.attn.c_attn"] == "r=8 on Conv1D 12x36, bias"
    assert notes["transformer.ln_f"] == "bias"
    assert notes["transformer.wpe"] == "a trained copy"
    assert notes["transformer.wte"] == ""


def test_full_trains_everything_and_counts_tied_weights_once(gpt2: nn.Module) -> None:
    form = form_of(gpt2, Full())
    assert (form.total, form.trainable, form.frozen) == (124_439_808, 124_439_808, 0)
    assert form.label == "Full(lr=0.001)"


@pytest.mark.parametrize(
    ("frozen", "count"),
    [
        (["wte"], WTE),
        (["transformer.wte"], WTE),
        (["lm_head"], WTE),
        (["wte", "lm_head", "wpe"], WTE + 1024 * 768),
        (["transformer"], 124_439_808),
        (["attn"], 12 * (768 * 2304 + 2304 + 768 * 768 + 768)),
        (["h.0.ln_1"], 2 * 768),
    ],
    ids=str,
)
def test_frozen_names_freeze_what_is_under_them(gpt2: nn.Module, frozen: list[str], count: int) -> None:
    method = Full(frozen=frozen)
    names = frozen_names(gpt2, frozen)
    assert sum(p.numel() for name, p in gpt2.named_parameters() if name in names) == count
    assert form_of(gpt2, method).frozen == count


def test_a_part_of_a_component_freezes_nothing(gpt2: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"Full.frozen names no module of this model: 'wt' \(closest: 'wte'\)"):
        parameter_form(gpt2, Full(frozen=["wte", "wt"]))


def test_a_module_to_save_that_is_not_there_is_refused(small: nn.Module) -> None:
    # PEFT trains on without it.
    with pytest.raises(RecipeError, match=r"LoRA.modules_to_save names no module .* 'lm_haed' \(closest: 'lm_head'"):
        parameter_form(small, LoRA(target_modules=["c_attn"], modules_to_save=["lm_haed"]))


@pytest.mark.parametrize("target", ["ln_1", "mlp"])
def test_a_target_that_lora_cannot_adapt_is_named(small: nn.Module, target: str) -> None:
    with pytest.raises(RecipeError, match=rf"LoRA cannot adapt transformer.h.0.{target}, a \w+; allowed: Linear, "):
        parameter_form(small, LoRA(target_modules=[target]))
    with pytest.raises(ValueError, match="not supported"):
        get_peft_model(small, LoRA(target_modules=[target]).to_peft())


def test_a_rank_that_does_not_fit_the_groups_is_refused() -> None:
    model = Alone(nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(RecipeError, match=r"LoRA.r is 2 for layer; allowed: a multiple of its 4 groups"):
        parameter_form(model, LoRA(r=2, target_modules=["layer"]))


def test_a_lora_config_has_the_form_of_its_declaration(small: nn.Module) -> None:
    config = LoraConfig(
        r=3, target_modules=["c_attn", "wte"], bias="all", exclude_modules=["h.0.attn.c_attn"], rank_pattern={"wte": 2}
    )
    assert_form_is_what_peft_builds(small, Peft(config))


NO_FORM: dict[str, PeftConfig] = {
    "BOFT": BOFTConfig(target_modules=["c_attn"], boft_block_size=2),
    "prompts": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "a copy in a copy": LoraConfig(target_modules=["c_attn"], modules_to_save=["h.1", "h.1.ln_1"]),
    "nothing targeted": LoraConfig(target_modules=[]),
    "trained tokens": LoraConfig(target_modules=["c_attn"], trainable_token_indices=[0]),
    "ranks set by the data": LoraConfig(target_modules=["c_attn"], init_lora_weights="eva"),
}


@pytest.mark.parametrize("config", NO_FORM.values(), ids=NO_FORM.keys())
def test_no_form_is_claimed_where_none_is_known(small: nn.Module, config: PeftConfig) -> None:
    assert parameter_form(small, Peft(config)) is None


def test_a_form_survives_json(small: nn.Module) -> None:
    form = form_of(small, LoRA(target_modules="all-linear", bias="all"))
    assert ParameterForm.from_json(form.to_json()) == form


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("transformer.wte.weight", "transformer.wte"),
        ("weight", ""),
        ("module.fc.bias", "fc"),
        ("_orig_mod.module.fc.bias", "fc"),
        ("module.base_model.model._orig_mod.h.0.c_attn.base_layer.weight", "h.0.c_attn"),
        ("base_model.model.model.layers.0.q_proj.lora_A.default.weight", "model.layers.0.q_proj"),
        ("base_model.model.h.0.c_attn.lora_B.second.bias", "h.0.c_attn"),
        ("base_model.model.wte.lora_embedding_A.default", "wte"),
        ("base_model.model.c_attn.lora_magnitude_vector.default.weight", "c_attn"),
        ("base_model.model.attn.base_layer.out_proj.base_layer.weight", "attn.out_proj"),
        ("base_model.model.attn.base_layer.in_proj_weight", "attn"),
        ("base_model.model.head.modules_to_save.default.0.weight", "head.0"),
        ("base_model.model.head.original_module.0.weight", "head.0"),
        ("base_model.model.c_attn.ia3_l.default", "c_attn"),
    ],
)
def test_parameters_are_traced_to_their_module_in_the_base_model(name: str, module: str) -> None:
    assert base_name(name) == module


def test_compiled_and_parallel_models_count_like_the_model_itself(small: nn.Module) -> None:
    plain = observed_modules(small)
    assert observed_modules(torch.compile(small)) == plain
    assert observed_modules(nn.DataParallel(small)) == plain
