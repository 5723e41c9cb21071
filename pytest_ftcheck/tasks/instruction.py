"""Instruction rows and a recipe around them: ragged, the prompt masked, the end supervised, padded on the right.

Everything that a default Llama on rows of one length hides is in it: a last short window, alpha other than r, dropout,
weight decay on matrices only, clipping, a schedule. It is sound, so every check must be silent on it, and each of the
catalogue's negative controls is this recipe with one thing broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..methods import Full, LoRA
from ..recipe import Recipe
from . import loop

if TYPE_CHECKING:
    from torch import Tensor, nn

VOCABULARY = 64
PAD, BEGIN, END = 0, 1, 2
FIRST_WORD = 3
IGNORED = -100
PROMPT = 3

Row = dict[str, list[int]]


def rows(count: int, seed: int, longest: int = 16) -> list[Row]:
    """``count`` rows of begin, prompt, completion, end. The completion repeats the prompt: it can be learned."""
    import random

    draw = random.Random(seed)
    return [_row([draw.randrange(FIRST_WORD, VOCABULARY) for _ in range(PROMPT)], draw, longest) for _ in range(count)]


def _row(prompt: list[int], draw: Any, longest: int) -> Row:
    completion = [prompt[i % PROMPT] for i in range(draw.randint(2, longest - PROMPT - 2))] + [END]
    ids = [BEGIN, *prompt, *completion]
    return {"input_ids": ids, "labels": [IGNORED] * (1 + PROMPT) + completion}


def train_rows() -> list[Row]:
    return rows(96, seed=1)


def eval_rows() -> list[Row]:
    return rows(24, seed=2)


def collate(batch: Sequence[Row]) -> dict[str, Tensor]:
    """Pad on the right to the longest row; padding is neither attended to nor supervised."""
    import torch

    length = max(len(row["input_ids"]) for row in batch)

    def padded(key: str, value: int) -> Tensor:
        return torch.tensor([[*row[key], *[value] * (length - len(row[key]))] for row in batch])

    sizes = torch.tensor([len(row["input_ids"]) for row in batch])
    mask = (torch.arange(length) < sizes[:, None]).long()
    return {"input_ids": padded("input_ids", PAD), "attention_mask": mask, "labels": padded("labels", IGNORED)}


def tiny_llama(seed: int = 0, **changes: Any) -> nn.Module:
    """A Llama of 2 layers and width 32, its head untied; the same weights for the same arguments."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        attention_dropout=0.1,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**config, **changes}))


def instruction_recipe(model: Callable[[], nn.Module] = tiny_llama, **changes: Any) -> Recipe:
    """The instruction task on ``model``: 60 updates of 2 batches of 4 rows, in full and with LoRA on 4 projections."""
    parts: dict[str, Any] = dict(
        name="instruction",
        model=model,
        train=loop.train,
        train_data=train_rows,
        eval_data=eval_rows,
        collate=collate,
        full=Full(lr=1e-3),
        lora=LoRA(
            r=4,
            alpha=16,
            dropout=0.05,
            target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
            lr=5e-3,
        ),
        steps=60,
        batch_size=4,
        accumulation=2,
        max_grad_norm=1.0,
        optimizer="AdamW",
        threads=1,
    )
    return Recipe(**{**parts, **changes})
