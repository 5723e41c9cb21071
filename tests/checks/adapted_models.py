"""Recipes of the instruction task with other models and adapters, and what checks say of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pytest_ftcheck import LoRA, Peft, Recipe
from pytest_ftcheck.checks.catalogue import chosen
from pytest_ftcheck.checks.examination import examine
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.tasks.instruction import VOCABULARY, instruction_recipe, tiny_llama
from pytest_ftcheck.tasks.models import tiny_gpt2

gpt2 = functools.partial(tiny_gpt2, VOCABULARY, 64, width=32, heads=4)
tied_llama = functools.partial(tiny_llama, tie_word_embeddings=True)


def tiny_mixtral() -> Any:
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MixtralForCausalLM(
            MixtralConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_local_experts=3,
                use_cache=False,
            )
        )


def lora_recipe(
    model: Callable[[], Any] = tiny_llama, dtype: str = "float32", config: Any = None, **settings: Any
) -> Recipe:
    """The task on ``model`` with LoRA on q and v (or ``settings``), or with PEFT's ``config``."""
    lora = LoRA(
        **{**dict(r=4, alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lr=5e-3), **settings}
    )
    return instruction_recipe(model, dtype=dtype, lora=lora if config is None else Peft(config, lr=5e-3))


def verdicts(recipe: Recipe, *ids: str, method: str = "lora") -> dict[str, Verdict]:
    """Check id -> verdict, of the checks or themes ``ids``, all on one training."""
    evidence = Evidence(recipe, method)
    return {check.id: examine(check, evidence) for check in chosen(ids)}


def failed(recipe: Recipe, *ids: str, method: str = "lora") -> dict[str, str]:
    """Check id -> text of the verdict, of those that failed."""
    return {id: str(v) for id, v in verdicts(recipe, *ids, method=method).items() if v.failed}
