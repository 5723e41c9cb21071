from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.adapting import adapted_with, recipe
from checks.other_methods import OTHERS, recipe_of
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from pytest_ftcheck import Full, Job, LoRA, Peft, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe
from pytest_ftcheck.training import adapt as put_on

VerdictOn = Callable[..., Verdict]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_modules": ["q_proj"]}, "no adapter here"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "an adapter here that was not declared"),
        ({"r": 8}, "rank 8 instead of 4"),
        ({"layers_to_transform": [1]}, "no adapter here"),
        ({"modules_to_save": ["lm_head"]}, "a trained copy here (modules_to_save) that was not declared"),
        ({"rank_pattern": {"v_proj": 2}}, "rank 2 instead of 4"),
    ],
)
def test_an_adapter_other_than_the_declared_one_is_found(verdict_on: VerdictOn, changes: Any, said: str) -> None:
    verdict = verdict_on("trainable-as-declared", recipe(adapt=adapted_with(**changes)))
    assert verdict.status == "failed"
    assert said in verdict.findings[0].summary


def test_a_declared_copy_of_the_head_that_is_missing_is_found(verdict_on: VerdictOn) -> None:
    declared = LoRA(r=4, alpha=16, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"])
    verdict = verdict_on("trainable-as-declared", recipe(lora=declared, adapt=adapted_with()))
    assert "no trained copy here" in verdict.findings[0].summary
    assert "modules_to_save" in verdict.findings[0].cause


def test_a_vocabulary_resized_while_adapting_is_no_departure(verdict_on: VerdictOn) -> None:
    def adapt(model: Any, method: Any) -> nn.Module:
        model.resize_token_embeddings(70)
        return model if isinstance(method, Full) else adapted_with()(model, method)

    for method in ("full", "lora"):
        assert verdict_on("trainable-as-declared", recipe(adapt=adapt), method).status == "passed"


def test_a_head_left_out_of_a_method_without_a_closed_form_is_found(verdict_on: VerdictOn) -> None:
    from peft import OFTConfig, get_peft_model

    def frozen_score(model: nn.Module, method: Any) -> nn.Module:
        adapted = get_peft_model(model, method.config)
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "score" not in name)
        return adapted

    method = Peft(OFTConfig(target_modules=["k_proj"], r=4, oft_block_size=0, task_type="SEQ_CLS"))
    sound = classification(lora=method)
    assert verdict_on("trainable-as-declared", sound).status == "passed"
    verdict = verdict_on("trainable-as-declared", sound.replace(adapt=frozen_score))
    assert "tensors of the task's head train" in verdict.findings[0].summary


def test_a_base_that_trains_beside_a_method_without_a_closed_form_is_found(verdict_on: VerdictOn) -> None:
    from peft import OFTConfig, get_peft_model

    method = Peft(OFTConfig(target_modules=["k_proj"], r=4, oft_block_size=0))

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        adapted = get_peft_model(model, method.config)
        adapted.base_model.model.lm_head.weight.requires_grad_(True)
        return adapted

    verdict = verdict_on("trainable-as-declared", recipe(lora=method, adapt=adapt))
    assert "2,048 parameters of the base train beside the adapter" in verdict.findings[0].summary


@pytest.mark.parametrize("method", OTHERS)
def test_a_module_whose_adapter_is_frozen_is_named_for_every_method(verdict_on: VerdictOn, method: str) -> None:
    def frozen(model: nn.Module, method: Any) -> nn.Module:
        adapted = put_on(model, method)
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "down_proj" not in name)
        return adapted

    sound = recipe_of(method)
    assert verdict_on("trainable-as-declared", sound).status == "passed"
    found = verdict_on("trainable-as-declared", sound.replace(adapt=frozen)).findings[0]
    assert "mlp.down_proj" in found.summary
    assert "the adapter is frozen" in found.summary


def classification(**changes: Any) -> Recipe:
    """Rows of three classes, on a Llama with a score head."""

    def model() -> nn.Module:
        from transformers import LlamaConfig, LlamaForSequenceClassification

        config = LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_labels=3,
            pad_token_id=0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return LlamaForSequenceClassification(config)

    rows = [{"input_ids": torch.arange(3 + i, 9 + i), "labels": torch.tensor(i % 3)} for i in range(20)]
    return instruction_recipe(model, **{"train_data": rows, "eval_data": None, "collate": None, **changes})


def test_flags_that_change_later_are_found_and_named(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        def unfreeze(*_: Any) -> None:
            job.model.get_input_embeddings().weight.requires_grad_(True)  # type: ignore[operator]

        hook = register_optimizer_step_post_hook(unfreeze)
        try:
            loop.train(job)
        finally:
            hook.remove()

    verdict = verdict_on("requires-grad-stays", recipe(train=train))
    assert "0 tensors stop and 1 begin to require gradients in update 2" in str(verdict)
    assert "embed_tokens" in str(verdict)


def test_the_original_of_a_trained_copy_must_not_train(verdict_on: VerdictOn) -> None:
    def adapt(model: nn.Module, method: Any) -> nn.Module:
        adapted = adapted_with(modules_to_save=["lm_head"])(model, method)
        adapted.base_model.model.lm_head.original_module.weight.requires_grad_(True)
        return adapted

    verdict = verdict_on("only-the-active-adapter-trains", recipe(adapt=adapt))
    assert "original_module" in str(verdict)
    assert verdict_on("every-trainable-has-a-gradient", recipe(adapt=adapt)).status == "failed"
