"""The recipes of the audit: sound trainings, chosen so that each shows bugs of the libraries that the others hide."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..errors import NotApplicable
from ..methods import Full, LoRA
from ..recipe import Recipe
from . import loops
from .data import conversations, preferences, texts
from .models import ARCHITECTURES, build
from .recipe_forms import ADAPTER, ADAPTER_IN_SHORT, TRAINER, StackRecipe, hf, peft_method, plain, recipe_on, trl
from .releases import require

QV = ("q_proj", "v_proj")


PEFT_ISSUES = "https://github.com/huggingface/peft/issues/"


PEFT_PULLS = "https://github.com/huggingface/peft/pull/"


TRANSFORMERS_PULLS = "https://github.com/huggingface/transformers/pull/"


def _lora(targets: Sequence[str] | str, **more: Any) -> LoRA:
    """LoRA of rank 4 and alpha 16 on ``targets``: alpha / r is not 1."""
    return LoRA(**{"r": 4, "alpha": 16, "target_modules": targets, "lr": 5e-3, **more})


def _conv1d(targets: Sequence[str], **more: Any) -> LoRA:
    return _lora(targets, options={"fan_in_fan_out": True}, **more)


def _kinds_of_lora() -> list[StackRecipe]:
    """LoRA and its relatives, in a plain loop."""
    short = ADAPTER_IN_SHORT
    return [
        plain(
            "llama-lora", "llama", _lora(QV, dropout=0.05, task_type="CAUSAL_LM"),
            "LoRA on queries and values of an untied Llama",
            themes=(*ADAPTER, "optimizer", "schedule", "labels", "loss", "data", "memory", "learning"),
        ),
        plain(
            "llama-patterns", "llama",
            _lora(QV, r=2, alpha=2, rank_pattern={"q_proj": 8}, alpha_pattern={"self_attn.q_proj": 64}),
            "LoRA with its own rank and alpha for the queries", themes=short, links=[f"{PEFT_PULLS}2195"],
        ),
        plain(
            "llama-rslora", "llama", _lora(QV, r=16, alpha=8, use_rslora=True), "rank-stabilised LoRA",
            needs="transformers,peft>=0.8", themes=short, links=[f"{PEFT_PULLS}2775"],
        ),
        plain(
            "gpt2-dora-square", "gpt2", _conv1d(["attn.c_proj"], use_dora=True), "DoRA on the square Conv1D of GPT-2",
            needs="transformers,peft>=0.9", themes=short, links=[f"{PEFT_PULLS}1588"],
        ),
        plain(
            "gpt2-dora", "gpt2", _conv1d(["c_attn"], use_dora=True), "DoRA on the oblong Conv1D of GPT-2",
            needs="transformers,peft>=0.9", links=[f"{PEFT_PULLS}1588"],
        ),
        plain(
            "gpt2-pissa-square", "gpt2", _conv1d(["attn.c_proj"], init="pissa"), "PiSSA on the square Conv1D of GPT-2",
            needs="transformers,peft>=0.10", links=[f"{PEFT_ISSUES}2103"],
        ),
        plain(
            "llama-pissa", "llama", _lora(QV, init="pissa"), "PiSSA on a Llama", needs="transformers,peft>=0.10",
            themes=short,
        ),
        plain(
            "llama-adalora", "llama",
            peft_method(
                "AdaLoraConfig", target_r=4, init_r=6, lora_alpha=64, target_modules=list(QV), total_step=200, tinit=20,
                tfinal=20,
            ),
            "AdaLoRA", themes=short, links=[f"{PEFT_ISSUES}1836"],
        ),
        plain(
            "llama-ia3", "llama",
            peft_method(
                "IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
            ),
            "IA3", themes=short,
        ),
    ]  # fmt: skip


def _targets_of_lora() -> list[StackRecipe]:
    """LoRA on all kinds of layers, with parts of the base trained beside it, in a plain loop."""
    short, two_heads = ADAPTER_IN_SHORT, [f"{PEFT_ISSUES}2206", f"{PEFT_ISSUES}493"]
    return [
        plain(
            "llama-tied-modules-to-save", "llama", _lora(QV, modules_to_save=["lm_head", "embed_tokens"]),
            "LoRA with embeddings and head trained in full", links=two_heads,
        ),
        plain(
            "qwen2-all-linear", "qwen2", _lora("all-linear", task_type="CAUSAL_LM"),
            "LoRA on every linear layer of a Qwen2, whose projections have biases", needs="transformers,peft>=0.8",
            links=[f"{PEFT_PULLS}1295"],
        ),
        plain(
            "gemma-embedding-lora", "gemma3-untied", _lora(["embed_tokens", "q_proj"]),
            "LoRA on the scaled embedding of a Gemma", themes=short, needs="transformers,peft>=0.18",
            links=[f"{PEFT_PULLS}438"],
        ),
        plain(
            "llama-regex-embedding", "llama", _lora(r".*(embed_.*|q_proj)$"),
            "LoRA on targets that a regular expression names, the embedding among them", themes=short,
            links=[f"{PEFT_PULLS}2649"],
        ),
        plain(
            "bert-classifier-prompt", "bert-classifier",
            peft_method("PromptTuningConfig", task_type="SEQ_CLS", num_virtual_tokens=4),
            "prompt tuning of a classifier, whose head trains and is saved",
            themes=("conduct", "parameters", "saving"), links=[f"{PEFT_PULLS}2646"],
        ),
        plain(
            "bert-classifier-lora", "bert-classifier", _lora(["query", "value"], task_type="SEQ_CLS"),
            "LoRA of a classifier, whose head trains and is saved", links=[f"{PEFT_PULLS}2646"],
        ),
        plain("mixtral-lora", "mixtral", _lora(QV), "LoRA on the attention of a mixture of experts"),
        plain(
            "t5-untied-lora", "t5-untied", _lora(["q", "v"], modules_to_save=["lm_head"], task_type="SEQ_2_SEQ_LM"),
            "LoRA and the head of an untied T5",
        ),
        plain(
            "gpt-neox-lora", "gpt-neox", _lora(["query_key_value", "dense_h_to_4h"], bias="lora_only"),
            "LoRA with biases on the fused projections of GPT-NeoX", themes=short,
        ),
    ]  # fmt: skip


def _fully_trained() -> list[StackRecipe]:
    """Full fine-tuning in a plain loop: what a model's own code and its checkpoints do."""
    names = ("llama-tied", "gpt2", "gemma3", "mixtral", "t5", "t5-untied", "bert-masked", "opt", "qwen3")
    return [
        plain(
            f"{name}-full", name, Full(lr=1e-3), f"{ARCHITECTURES[name].base} trained in full",
            themes=("conduct", "parameters", "labels", "loss", "mode", "saving", "memory"), needs="transformers",
        )
        for name in names
    ]  # fmt: skip


def _trainers() -> list[StackRecipe]:
    """``transformers.Trainer``: models that take the number of items of a window, and models that do not."""
    gradient = [f"{TRANSFORMERS_PULLS}34191", f"{TRANSFORMERS_PULLS}35207"]
    lora = _lora(QV, task_type="CAUSAL_LM")
    return [
        hf(
            "trainer-llama", "llama", {"full": Full(lr=1e-3), "accumulation": 4, "batch_size": 2},
            "the Trainer on a model that takes num_items_in_batch", links=gradient, themes=(),
        ),
        hf(
            "trainer-gpt2", "gpt2", {"full": Full(lr=1e-3), "accumulation": 4, "batch_size": 2},
            "the Trainer on GPT-2, with dropout", links=gradient, themes=(*TRAINER, "resume"),
        ),
        hf(
            "trainer-llama-lora", "llama", {"lora": lora, "accumulation": 4, "batch_size": 2},
            "the Trainer on a PEFT model", links=gradient, themes=(*TRAINER, "resume", "saving"),
        ),
        hf(
            "trainer-bert-classifier", "bert-classifier", {"full": Full(lr=1e-3), "accumulation": 4, "batch_size": 2},
            "the Trainer on a classifier", links=gradient,
        ),
        hf(
            "trainer-t5", "t5", {"full": Full(lr=1e-3), "accumulation": 4, "batch_size": 2},
            "the Trainer on an encoder-decoder", links=gradient,
        ),
        hf(
            "trainer-smoothing", "llama", {"full": Full(lr=1e-3), "accumulation": 4, "batch_size": 2},
            "the Trainer with label smoothing", arguments={"label_smoothing_factor": 0.1},
            themes=("conduct", "labels", "loss", "equivalence"),
        ),
        StackRecipe(
            "accelerate-loop", "an accelerate loop with accumulation, a scheduler and evaluation in the middle",
            lambda: recipe_on(
                "accelerate-loop", "llama", {}, full=Full(lr=1e-3), train=loops.accelerate_loop, max_grad_norm=1.0
            ),
            ("conduct", "optimizer", "schedule", "data", "mode"), "transformers,accelerate",
            ("https://github.com/huggingface/accelerate/issues/963",),
        ),
    ]  # fmt: skip


def _with_trl() -> list[StackRecipe]:
    """TRL's trainers, which tokenize, mask, pack and truncate by themselves."""
    supervised = ("conduct", "optimizer", "schedule", "labels", "loss", "data", "mode", "equivalence")
    return [
        trl(
            "sft-conversations", "SFT", conversations, "SFT on prompts and completions that are messages",
            themes=supervised, links=["https://github.com/huggingface/trl/pull/4201"],
            arguments={"completion_only_loss": True},
        ),
        trl("sft-texts", "SFT", texts, "SFT on prompts and completions that are texts", themes=supervised),
        trl(
            "dpo", "DPO", preferences, "DPO on preferences of different lengths",
            themes=("conduct", "optimizer", "schedule", "equivalence"), parts=_reference,
        ),
    ]  # fmt: skip


def _reference() -> dict[str, Any]:
    return {"ref_model": build("llama", seed=5)}


@functools.cache
def entries() -> tuple[StackRecipe, ...]:
    """Every recipe of the audit, in the same order in every process; building none."""
    return (*_kinds_of_lora(), *_targets_of_lora(), *_fully_trained(), *_trainers(), *_with_trl())


def recipes() -> dict[str, Recipe]:
    """Name -> recipe, of those that the installed releases can make."""
    made = {}
    for entry in entries():
        try:
            require(entry.needs)
            made[entry.id] = entry.make()
        except NotApplicable:
            continue
    return made
