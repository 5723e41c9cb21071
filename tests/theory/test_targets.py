"""A LoRA declaration means the modules that PEFT adapts, and a wrong name is answered with the right one."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import LoRA
from pytest_ftcheck.theory.targets import alpha_of, linear_layers, rank_of, targeted_modules, unmatched_targets

DECLARATIONS = {
    "endings": LoRA(target_modules=["c_attn", "mlp.c_proj"]),
    "one full name": LoRA(target_modules=["transformer.h.1.attn.c_attn"]),
    "a regular expression": LoRA(target_modules=r".*h\.1\.(attn|mlp)\.c_proj"),
    "all-linear": LoRA(target_modules="all-linear"),
    "the default of the model type": LoRA(),
    "an embedding": LoRA(target_modules=["wte", "c_fc"]),
    "an ending excluded": LoRA(target_modules=["c_attn", "c_proj"], options={"exclude_modules": ["mlp.c_proj"]}),
    "a pattern excluded": LoRA(target_modules=["c_attn", "c_fc"], options={"exclude_modules": r".*\.0\..*"}),
    "one layer": LoRA(target_modules=["c_attn"], options={"layers_to_transform": 1}),
    "layer 0": LoRA(target_modules=["c_attn"], options={"layers_to_transform": 0}),
    "layers of a pattern": LoRA(target_modules=["c_fc"], options={"layers_to_transform": [0], "layers_pattern": "h"}),
    "a full name in another layer": LoRA(
        target_modules=["transformer.h.0.mlp.c_fc", "c_attn"], options={"layers_to_transform": [1]}
    ),
    "beside a copied module": LoRA(target_modules=["c_proj", "c_fc"], modules_to_save=["mlp"]),
}


def adapted_by_peft(model: nn.Module, method: LoRA) -> set[str]:
    adapted = get_peft_model(model, method.to_peft()).base_model.model
    return {name for name, module in adapted.named_modules() if isinstance(module, LoraLayer)}


@pytest.mark.parametrize("method", DECLARATIONS.values(), ids=DECLARATIONS.keys())
def test_targets_are_the_modules_that_peft_adapts(small: nn.Module, method: LoRA) -> None:
    targets = targeted_modules(small, method)
    assert len(set(targets)) == len(targets)
    assert set(targets) == adapted_by_peft(small, method)


@pytest.mark.parametrize("task_type", ["SEQ_CLS", None])
def test_all_linear_leaves_out_the_head_that_the_task_type_names(classifier: nn.Module, task_type: str | None) -> None:
    method = LoRA(target_modules="all-linear", task_type=task_type)
    targets = targeted_modules(classifier, method)
    assert ("score" in targets) == (task_type is None)
    assert set(targets) == adapted_by_peft(classifier, method)


def test_an_ending_can_match_two_layers_of_a_block(small: nn.Module) -> None:
    assert targeted_modules(small, LoRA(target_modules=["c_proj"])) == (
        "transformer.h.0.attn.c_proj",
        "transformer.h.0.mlp.c_proj",
        "transformer.h.1.attn.c_proj",
        "transformer.h.1.mlp.c_proj",
    )


def test_linear_layers_are_linear_and_conv1d(small: nn.Module) -> None:
    layers = linear_layers(small)
    assert len(layers) == 2 * 4 + 1
    assert layers[-1] == "lm_head"


def test_a_target_that_is_not_there_is_answered_with_the_closest_names_and_all_shapes(gpt2: nn.Module) -> None:
    with pytest.raises(RecipeError) as caught:
        targeted_modules(gpt2, LoRA(target_modules=["c_atn", "zzz"]))
    assert str(caught.value).splitlines() == [
        "LoRA.target_modules names no module of this model: 'c_atn' (closest: 'c_attn', 'attn'), 'zzz'",
        "  its linear layers, by the ending of their names:",
        "    c_attn: 12 of 768x2304",
        "    c_proj: 12 of 768x768, 12 of 3072x768",
        "    c_fc: 12 of 768x3072",
        "    lm_head: 1 of 768x50257",
    ]


def test_a_lone_string_that_matches_nothing_is_said_to_be_a_regular_expression(small: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"'c_attn' \(closest: 'c_attn'.*\n.*regular expression for the whole name"):
        targeted_modules(small, LoRA(target_modules="c_attn"))


def test_a_glob_is_refused_as_a_regular_expression(small: nn.Module) -> None:
    with pytest.raises(RecipeError, match="which is no regular expression"):
        targeted_modules(small, LoRA(target_modules="*.c_attn"))


def test_a_model_of_unknown_type_has_no_default_targets() -> None:
    model = nn.Sequential(OrderedDict(up=nn.Linear(4, 8), act=nn.ReLU(), down=nn.Linear(8, 4)))
    with pytest.raises(RecipeError, match=r"(?s)type None; name them.*up: 1 of 4x8"):
        targeted_modules(model, LoRA())


def test_targets_that_are_all_left_out_are_said_to_be_so(small: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"matches 2 modules .* every one is left out"):
        targeted_modules(small, LoRA(target_modules=["c_attn"], options={"exclude_modules": ["attn.c_attn"]}))


def test_numbered_layers_are_listed_with_the_name_above_them() -> None:
    model = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))})
    with pytest.raises(RecipeError, match=r"mlp\.0: 1 of 4x8\n    mlp\.1: 1 of 8x4"):
        targeted_modules(model, LoRA(target_modules=["q_proj"]))


def test_targets_that_peft_drops_without_a_word_are_found(small: nn.Module) -> None:
    assert unmatched_targets(small, LoRA(target_modules=["c_attn", "q_proj", "attn.c_proj", "_proj"])) == (
        "q_proj",
        "_proj",
    )
    assert unmatched_targets(small, LoRA(target_modules=r".*\.q_proj")) == (r".*\.q_proj",)
    for targets in (["c_attn"], "all-linear", r".*c_attn", None):
        assert unmatched_targets(small, LoRA(target_modules=targets)) == ()


PATTERNS = {"h.1.attn.c_attn": 3, "c_attn": 5, r"^transformer.*mlp\.c_proj": 7, "proj": 11}


def test_rank_and_alpha_patterns_give_what_peft_gives(small: nn.Module) -> None:
    method = LoRA(r=2, alpha=4, target_modules="all-linear", rank_pattern=PATTERNS, alpha_pattern=PATTERNS)
    adapted = get_peft_model(small, method.to_peft()).base_model.model
    layers = {name: module for name, module in adapted.named_modules() if isinstance(module, LoraLayer)}
    assert {name: rank_of(method, name) for name in layers} == {n: m.r["default"] for n, m in layers.items()}
    assert {name: alpha_of(method, name) for name in layers} == {n: m.lora_alpha["default"] for n, m in layers.items()}
    assert {rank_of(method, name) for name in layers} == {2, 3, 5, 7}
