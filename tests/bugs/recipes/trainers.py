"""Recipes with a Hugging Face ``Trainer``, as people write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.tasks.instruction import collate, eval_rows, tiny_llama, train_rows
from pytest_ftcheck.tasks.models import tiny_gpt2

from .arguments import arguments_of


def arguments(job: Job) -> TrainingArguments:
    return arguments_of(TrainingArguments, job, label_names=["labels"])


def make_trainer(job: Job) -> Trainer:
    return Trainer(
        model=job.model,
        args=arguments(job),
        train_dataset=job.train_data,
        eval_dataset=job.eval_data,
        data_collator=collate,
    )


def trainer_recipe(model: Any, **changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        name="trainer",
        model=model,
        train_data=train_rows,
        eval_data=eval_rows,
        collate=collate,
        full=Full(lr=1e-3),
        lora=None,
        steps=20,
        batch_size=2,
        accumulation=4,
        threads=1,
    )
    return Recipe.from_trainer(make_trainer, **{**parts, **changes})


def gpt2(dropout: float = 0.0) -> nn.Module:
    model = tiny_gpt2(64, 64, width=32, layers=2, heads=4)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return model


def gpt2_with_dropout() -> nn.Module:
    return gpt2(0.1)


def bert_classifier() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        return BertForSequenceClassification(config)


def classified(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The instruction rows, to be told apart by whether their first word is an even one."""
    batch = collate(rows)
    return {**batch, "labels": batch["input_ids"][:, 1] % 2}


def classifying_trainer(job: Job) -> Trainer:
    return Trainer(
        model=job.model,
        args=arguments(job),
        train_dataset=job.train_data,
        eval_dataset=job.eval_data,
        data_collator=classified,
    )


def llama_in_full() -> Recipe:
    return trainer_recipe(tiny_llama)


def gpt2_in_full() -> Recipe:
    return trainer_recipe(gpt2)


def gpt2_with_evaluation() -> Recipe:
    return trainer_recipe(gpt2_with_dropout, accumulation=1)


def bert_in_full() -> Recipe:
    recipe = trainer_recipe(bert_classifier, collate=classified)
    return Recipe.from_trainer(
        classifying_trainer,
        **{
            name: getattr(recipe, name)
            for name in (
                "name",
                "model",
                "train_data",
                "eval_data",
                "full",
                "lora",
                "steps",
                "batch_size",
                "accumulation",
            )
        },
    )


def llama_with_lora() -> Recipe:
    return trainer_recipe(
        tiny_llama, full=None, lora=LoRA(r=4, alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
