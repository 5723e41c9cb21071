"""LoRA on parameters that are named themselves: every expert of a stack has factors of its own."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from peft import LoraConfig
from theory.built import assert_form_is_what_peft_builds, built, causes, form_of, told_of
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import LoRA, Peft
from pytest_ftcheck.theory.parameters import parameter_form

pytestmark = pytest.mark.skipif(int(transformers.__version__.split(".")[0]) < 5, reason="experts are their own modules")

SIZES: dict[str, Any] = dict(
    vocab_size=17, hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4
)
EXPERTS = "model.layers.1.mlp.experts"


@pytest.fixture
def mixtral() -> nn.Module:
    """Three experts a layer: gate_up_proj (3, 24, 16) and down_proj (3, 16, 12)."""
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3))


def qwen() -> nn.Module:
    """Experts, and one that all tokens share: a module with layers of the experts' old names."""
    config = Qwen2MoeConfig(
        **SIZES, num_key_value_heads=2, num_experts=3, moe_intermediate_size=8, shared_expert_intermediate_size=12
    )
    return Qwen2MoeForCausalLM(config)


def on(parameters: list[str], targets: Any = (), **settings: Any) -> Peft:
    targets = list(targets) if isinstance(targets, tuple) else targets
    return Peft(LoraConfig(**{"r": 2, "target_modules": targets, "target_parameters": parameters, **settings}))


BOTH = ["experts.gate_up_proj", "down_proj"]
METHODS: dict[str, tuple[Peft, int]] = {
    "one parameter": (on(["gate_up_proj"]), 2 * 3 * 2 * (24 + 16)),
    "both of a module": (on(BOTH), 2 * 3 * 2 * (24 + 16 + 16 + 12)),
    "one in one layer": (on([f"{EXPERTS}.down_proj"]), 3 * 2 * (16 + 12)),
    "a rank of its own": (on(BOTH, rank_pattern={"experts.down_proj": 5}), 2 * 3 * (2 * 40 + 5 * 28)),
    "a matrix": (on(["gate.weight"]), 2 * 2 * (3 + 16)),
    "an embedding": (on(["embed_tokens.weight"]), 2 * (17 + 16)),
    "beside modules": (on(["gate_up_proj"], ["q_proj"]), 2 * (3 * 2 * 40 + 2 * 32)),
    "beside a copy": (on(["gate_up_proj"], modules_to_save=["lm_head"]), 2 * 3 * 2 * 40 + 17 * 16),
    "rsLoRA": (on(["gate_up_proj"], use_rslora=True), 2 * 3 * 2 * 40),
    "one that is not there": (on(["down_proj", "nope"]), 2 * 3 * 2 * 28),
}


@pytest.mark.parametrize(("method", "trainable"), METHODS.values(), ids=METHODS.keys())
def test_experts_have_their_closed_form(mixtral: nn.Module, method: Peft, trainable: int) -> None:
    assert assert_form_is_what_peft_builds(mixtral, method).trainable == trainable


def test_a_declaration_of_our_own_says_the_same(mixtral: nn.Module) -> None:
    method = LoRA(r=2, target_modules=[], options={"target_parameters": BOTH})
    assert method.label == "LoRA(r=2, alpha=16, down_proj+experts.gate_up_proj, lr=0.01)"
    assert assert_form_is_what_peft_builds(mixtral, method).trainable == METHODS["both of a module"][1]


def test_notes_name_each_parameter(mixtral: nn.Module) -> None:
    notes = {m.name: m.note for m in form_of(mixtral, on(BOTH, rank_pattern={"down_proj": 5})).modules}
    assert notes[EXPERTS] == "r=2 on gate_up_proj 3 x 24x16; r=5 on down_proj 3 x 16x12"


OTHERWISE = {
    "another rank": (on(BOTH), on(BOTH, r=4), "rank 4 instead of 2"),
    "one parameter fewer": (on(BOTH), on(["gate_up_proj"]), "no rank gives this size"),
    "another rank of one": (
        on(BOTH, rank_pattern={"down_proj": 5}),
        on(BOTH),
        "another adapter than the declared one",
    ),
    "none": (on(BOTH, ["q_proj"]), on([], ["q_proj"]), "no adapter here"),
}


@pytest.mark.parametrize(("declared", "otherwise", "cause"), OTHERWISE.values(), ids=OTHERWISE.keys())
def test_experts_built_otherwise_are_told(mixtral: nn.Module, declared: Peft, otherwise: Peft, cause: str) -> None:
    assert told_of(mixtral, declared, otherwise) == dict.fromkeys(("model.layers.0.mlp.experts", EXPERTS), cause)


def test_frozen_experts_are_told(mixtral: nn.Module) -> None:
    form, model = form_of(mixtral, on(BOTH)), built(mixtral, on(BOTH))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and "layers.1" not in name)
    assert causes(form, model) == {EXPERTS: "the adapter is frozen"}


def test_attention_targets_beside_stacked_experts_have_their_closed_form(mixtral: nn.Module) -> None:
    assert_form_is_what_peft_builds(mixtral, LoRA(r=2, target_modules=["q_proj", "v_proj"]))


@pytest.mark.parametrize("targets", ["all-linear", None, r".*q_proj", ["q_proj", "w1"], ["q_proj", "gate"]], ids=str)
def test_no_form_is_claimed_where_peft_rewrites_the_targets(
    mixtral: nn.Module, targets: list[str] | str | None
) -> None:
    assert parameter_form(mixtral, LoRA(r=2, target_modules=targets)) is None


def test_no_form_is_claimed_where_a_layer_has_the_old_name_of_an_expert() -> None:
    assert parameter_form(qwen(), LoRA(r=2, target_modules=["q_proj", "down_proj"])) is None
    assert_form_is_what_peft_builds(qwen(), on(["experts.down_proj"], ["q_proj"]))


def test_no_form_is_claimed_of_experts_that_are_copied_too(mixtral: nn.Module) -> None:
    assert parameter_form(mixtral, on(["gate_up_proj"], modules_to_save=["mlp"])) is None


def test_parameters_that_cannot_be_adapted_are_named(mixtral: nn.Module) -> None:
    with pytest.raises(RecipeError, match=r"names no parameter of this model: 'gate_up' \(closest: 'gate_up_proj'\)"):
        parameter_form(mixtral, on(["gate_up"]))
    with pytest.raises(RecipeError, match=r"LoRA cannot adapt model.norm.weight, a parameter of 1 dimensions; allowed"):
        parameter_form(mixtral, on(["model.norm.weight"]))
    with pytest.raises(ValueError, match="only 2d and 3d are supported"):
        built(mixtral, on(["model.norm.weight"]))
