"""Recipes that train in a fraction of a second, and variations of them that are broken."""

from __future__ import annotations

from typing import Any

import torch

from pytest_ftcheck import Full, LoRA, Recipe
from pytest_ftcheck.tasks.models import tiny_gpt2

VOCABULARY, LENGTH = 20, 6


def tiny_model() -> torch.nn.Module:
    return tiny_gpt2(VOCABULARY, LENGTH, width=8, layers=1)


def drawn_model() -> torch.nn.Module:
    """A model whose weights come from the seed of the run."""
    model = tiny_model()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def tiny_rows(count: int = 24, labelled: bool = True) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row if labelled else torch.full_like(row, -100)} for row in ids]


def tiny_recipe(**changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        name="tiny",
        model=tiny_model,
        train_data=tiny_rows(),
        eval_data=tiny_rows(8),
        full=Full(lr=1e-2),
        lora=LoRA(r=2, alpha=4, target_modules=["c_attn"], lr=1e-2),
        steps=6,
        batch_size=4,
        threads=1,
    )
    return Recipe(**{**parts, **changes})
