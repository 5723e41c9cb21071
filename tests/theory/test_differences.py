"""A model that departs from its declaration is told so: the module, the numbers, and the cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from peft import PeftModel, get_peft_model
from torch import nn

from pytest_ftcheck.methods import Full, LoRA
from pytest_ftcheck.theory.differences import Difference, differences, grouped, observed_modules
from pytest_ftcheck.theory.parameters import parameter_form

ATTENTION = LoRA(r=8, target_modules=["c_attn"])


@dataclass(frozen=True)
class Mutation:
    """A model built other than declared; ``module`` and ``cause`` are what must be said of it."""

    declared: LoRA | Full
    built: LoRA | Full
    module: str
    cause: str
    change: Callable[[Any], object] | None = None


def freeze(*fragments: str) -> Callable[[nn.Module], None]:
    return lambda model: _set(model, fragments, False)


def unfreeze(*fragments: str) -> Callable[[nn.Module], None]:
    return lambda model: _set(model, fragments, True)


def _set(model: nn.Module, fragments: tuple[str, ...], trainable: bool) -> None:
    for name, parameter in model.named_parameters():
        if all(fragment in name for fragment in fragments):
            parameter.requires_grad_(trainable)


C_ATTN, LM_HEAD = "transformer.h.1.attn.c_attn", "lm_head"
WITH_COPY = LoRA(r=8, target_modules=["c_attn"], modules_to_save=["lm_head"])
WITH_BIAS = LoRA(r=8, target_modules=["c_attn"], bias="all")
MUTATIONS = {
    "half the rank": Mutation(ATTENTION, LoRA(r=4, target_modules=["c_attn"]), C_ATTN, "rank 4 instead of 8"),
    "half the rank, frozen": Mutation(
        ATTENTION,
        LoRA(r=4, target_modules=["c_attn"]),
        C_ATTN,
        "rank 4 instead of 8, and the adapter is frozen",
        freeze("h.1", "lora_"),
    ),
    "another rank under biases": Mutation(
        WITH_BIAS, LoRA(r=1, target_modules=["c_attn"], bias="all"), C_ATTN, "rank 1 instead of 8"
    ),
    "adapter frozen": Mutation(ATTENTION, ATTENTION, C_ATTN, "the adapter is frozen", freeze("h.1", "lora_")),
    "A frozen": Mutation(ATTENTION, ATTENTION, C_ATTN, "part of it is frozen", freeze("lora_A")),
    "base trains": Mutation(ATTENTION, ATTENTION, C_ATTN, "the base is not frozen", unfreeze("h.1.attn.c_attn")),
    "a norm trains": Mutation(ATTENTION, ATTENTION, "transformer.ln_f", "the base is not frozen", unfreeze("ln_f")),
    "a bias trains": Mutation(
        ATTENTION, ATTENTION, C_ATTN, "the bias is not frozen", unfreeze("h.1.attn.c_attn.base_layer.bias")
    ),
    "biases do not train": Mutation(WITH_BIAS, ATTENTION, "transformer.h.0.ln_1", "the bias is frozen"),
    "adapter never put on": Mutation(ATTENTION, Full(), C_ATTN, "no adapter here, and the base is not frozen"),
    "other targets": Mutation(ATTENTION, LoRA(r=8, target_modules=["c_proj"]), C_ATTN, "no adapter here"),
    "one target too many": Mutation(
        ATTENTION,
        LoRA(r=8, target_modules=["c_attn", "c_fc"]),
        "transformer.h.0.mlp.c_fc",
        "an adapter here that was not declared",
    ),
    "head adapted": Mutation(
        ATTENTION,
        LoRA(r=8, target_modules=["c_attn", "lm_head"]),
        LM_HEAD,
        "an adapter, or a weight no longer tied, that was not declared",
    ),
    "copy left out": Mutation(WITH_COPY, ATTENTION, LM_HEAD, "not in the trained model"),
    "copy frozen": Mutation(WITH_COPY, WITH_COPY, LM_HEAD, "the copy is frozen", freeze("lm_head.modules_to_save")),
    "copy undeclared": Mutation(
        ATTENTION,
        LoRA(r=8, target_modules=["c_attn"], modules_to_save=["wpe"]),
        "transformer.wpe",
        "a trained copy here (modules_to_save) that was not declared",
    ),
    "copy of a norm left out": Mutation(
        LoRA(target_modules=["c_attn"], modules_to_save=["ln_f"]),
        ATTENTION,
        "transformer.ln_f",
        "no trained copy here (modules_to_save)",
    ),
    "DoRA undeclared": Mutation(
        ATTENTION, LoRA(r=8, target_modules=["c_attn"], use_dora=True), C_ATTN, "no rank gives this size"
    ),
    "frozen module trains": Mutation(Full(frozen=["wpe"]), Full(), "transformer.wpe", "the module is not frozen"),
    "module frozen": Mutation(Full(), Full(), "transformer.wpe", "the module is frozen", freeze("wpe")),
    "module lost": Mutation(
        Full(), Full(), "transformer.wpe", "not in the trained model", lambda m: delattr(m.transformer, "wpe")
    ),
}


def built(model: nn.Module, method: LoRA | Full) -> nn.Module | PeftModel:
    return model if isinstance(method, Full) else get_peft_model(model, method.to_peft())


def found_in(model: nn.Module, mutation: Mutation) -> tuple[Difference, ...]:
    form = parameter_form(model, mutation.declared)
    assert form is not None
    trained = built(model, mutation.built)
    if mutation.change:
        mutation.change(trained)
    return differences(form, observed_modules(trained))


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_mutated_model_is_told_the_module_and_the_cause(small: nn.Module, mutation: Mutation) -> None:
    causes = {difference.module: difference.cause for difference in found_in(small, mutation)}
    assert causes.get(mutation.module) == mutation.cause


@pytest.mark.parametrize("method", [ATTENTION, WITH_BIAS, WITH_COPY, Full()], ids=lambda method: method.label)
def test_a_model_built_as_declared_has_no_differences(small: nn.Module, method: LoRA | Full) -> None:
    assert found_in(small, Mutation(method, method, "", "")) == ()


def test_one_parameter_is_a_difference(small: nn.Module) -> None:
    form = parameter_form(small, Full())
    assert form is not None
    observed = observed_modules(small)
    total, trainable = observed[C_ATTN]
    (found,) = differences(form, {**observed, C_ATTN: (total, trainable - 1)})
    assert (found.module, found.cause) == (C_ATTN, "part of it is frozen")


def test_an_empty_observation_differs_in_every_module(small: nn.Module) -> None:
    form = parameter_form(small, ATTENTION)
    assert form is not None
    assert {difference.module for difference in differences(form, {})} == {module.name for module in form.modules}


def test_a_wrong_rank_reads_as_one_line_for_all_blocks(gpt2: nn.Module) -> None:
    found = found_in(gpt2, Mutation(ATTENTION, LoRA(r=4, target_modules=["c_attn"]), "", ""))
    assert str(found[0]) == "12,288 trainable instead of 24,576 in transformer.h.0.attn.c_attn: rank 4 instead of 8"
    assert grouped(found) == (
        "12,288 trainable instead of 24,576 in each of 12 modules (transformer.h.*.attn.c_attn): rank 4 instead of 8",
    )


def test_alike_modules_with_other_causes_are_not_grouped(small: nn.Module) -> None:
    rank = LoRA(r=4, target_modules=["c_attn"])
    found = found_in(small, Mutation(ATTENTION, rank, "", "", freeze("h.1", "lora_")))
    assert set(grouped(found)) == {str(difference) for difference in found}
    assert len(found) == 2


def test_a_total_that_differs_alone_is_what_the_line_says(small: nn.Module) -> None:
    frozen_copy = Mutation(
        ATTENTION, LoRA(r=8, target_modules=["c_attn"], modules_to_save=["wpe"]), "", "", freeze("wpe")
    )
    (found,) = found_in(small, frozen_copy)
    assert str(found) == (
        "192 parameters instead of 96 in transformer.wpe: an adapter here that was not declared, frozen"
    )


def test_parameters_of_the_model_itself_are_said_to_be_so() -> None:
    assert str(Difference("", 0, 3, 3, 3, "the module is not frozen")).startswith(
        "3 trainable instead of 0 in the model"
    )


def test_a_difference_survives_json() -> None:
    difference = Difference("h.0", 1, 2, 3, 4, "rank 4 instead of 8")
    assert Difference.from_json(difference.to_json()) == difference


def test_modules_of_one_cause_with_other_numbers_are_added_up() -> None:
    found = [
        Difference(name, 0, size, size, size, "the module is not frozen")
        for name, size in (("a", 5), ("b", 7), ("c.0", 1))
    ]
    assert grouped(found) == ("13 trainable instead of 0 in 3 modules together (a, b, c.*): the module is not frozen",)


def test_the_cause_that_concerns_most_parameters_comes_first() -> None:
    found = [Difference("a", 0, 5, 5, 5, "small"), Difference("b", 0, 500, 500, 500, "large")]
    assert [line.rpartition(": ")[2] for line in grouped(found)] == ["large", "small"]
