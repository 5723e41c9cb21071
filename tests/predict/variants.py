"""Training steps that differ from one another in one thing, on models that are predicted in about a second."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pytest_ftcheck import Job, LoRA, Recipe
from pytest_ftcheck.predict import Prediction, predict_recipe

ROWS, LENGTH = 4, 64


def gpt2(**changes: Any) -> nn.Module:
    """One block of GPT-2's own width, without dropout."""
    settings: dict[str, Any] = dict(n_layer=1, vocab_size=500, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config(**{**settings, **changes}))


def llama() -> nn.Module:
    heads: dict[str, Any] = dict(num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=1)
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(hidden_size=256, intermediate_size=512, vocab_size=500, **heads))


def training(
    *,
    checkpointing: bool = False,
    use_cache: bool = False,
    keep_output: bool = False,
    set_to_none: bool = True,
    padding: int = 0,
    fused: bool = False,
    thaw: str | None = None,
) -> Callable[[Job], None]:
    """A plain loop; ``thaw`` names a parameter that trains besides, of one row ``padding`` tokens are none."""

    def train(job: Job) -> None:
        model: Any = job.model
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        if thaw:
            model.get_parameter(thaw).requires_grad_(True)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=job.lr, fused=fused, foreach=not fused)
        for _ in range(job.steps):
            output = model(**batch(job, padding), use_cache=use_cache)
            loss = output.loss
            if not keep_output:
                del output
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)
            del loss

    return train


def batch(job: Job, padding: int) -> dict[str, torch.Tensor]:
    ids = torch.ones(ROWS, LENGTH, dtype=torch.long)
    rows = {"input_ids": ids, "labels": ids}
    if padding:
        mask = torch.ones_like(ids)
        mask[0, -padding:] = 0
        rows["attention_mask"] = mask
    return {name: tensor.to(job.device) for name, tensor in rows.items()}


def in_the_base_dtype(model: nn.Module, method: Any) -> nn.Module:
    """An adapter in the dtype of the base, which is not PEFT's default."""
    from peft import get_peft_model

    return get_peft_model(model, method.to_peft(), autocast_adapter_dtype=False)  # type: ignore[arg-type]


def of_gpt2(r: int = 8, dropout: float = 0.0, **step: Any) -> Recipe:
    return Recipe(
        name="gpt2",
        model=lambda: gpt2(resid_pdrop=dropout),
        train=training(**step),
        train_data=[{}],
        lora=LoRA(r=r, target_modules=["c_attn"]),
        batch_size=ROWS,
    )


def of_llama(adapt: Callable[[nn.Module, Any], nn.Module] | None = in_the_base_dtype, **step: Any) -> Recipe:
    """In bfloat16."""
    return Recipe(
        name="llama",
        model=llama,
        adapt=adapt,
        train=training(**step),
        train_data=[{}],
        lora=LoRA(r=8, target_modules=["q_proj", "v_proj"]),
        batch_size=ROWS,
        dtype="bfloat16",
    )


RECIPES: dict[str, Recipe] = {
    "sound": of_gpt2(),
    "checkpointing": of_gpt2(checkpointing=True),
    "rank doubled": of_gpt2(r=16),
    "cache": of_gpt2(use_cache=True),
    "output kept": of_gpt2(keep_output=True),
    "gradients zeroed": of_gpt2(set_to_none=False),
    "norm thawed": of_gpt2(thaw="base_model.model.transformer.h.0.ln_1.weight"),
    "dropout": of_gpt2(dropout=0.1),
    "fused": of_gpt2(fused=True),
    "bfloat16": of_llama(),
    "adapters in float32": of_llama(adapt=None),
    "padded": of_llama(padding=5),
}


@functools.cache
def predicted(name: str, method: str = "lora", gpu: str = "h100") -> Prediction:
    """The prediction of a recipe of the table; made once."""
    return predict_recipe(RECIPES[name], method, gpu=gpu)
