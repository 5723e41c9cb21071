from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_ftcheck import Full, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import instruction_recipe

VerdictOn = Callable[..., Verdict]


def test_reentrant_checkpointing_over_a_frozen_embedding_is_named(verdict_on: VerdictOn) -> None:
    """Of a plain model, in which only the head outside of the checkpoint trains."""
    verdict = verdict_on("every-trainable-has-a-gradient", plain(Checkpointed), "full")
    assert verdict.status == "failed"
    assert "got no gradient" in verdict.findings[0].summary
    assert "reentrant" in verdict.findings[0].cause


@pytest.mark.parametrize("unused", ["pooler", "experts", "spare"])
def test_parts_without_a_gradient_by_design_are_silent(verdict_on: VerdictOn, unused: str) -> None:
    verdict = verdict_on("every-trainable-has-a-gradient", plain(functools.partial(WithParts, unused)), "full")
    assert verdict.status == "passed", verdict


def test_a_detached_branch_inside_a_layer_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("every-trainable-has-a-gradient", plain(functools.partial(WithParts, "detached")), "full")
    assert "layers.1" in str(verdict)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 8)
        self.embed.weight.requires_grad_(False)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.head = nn.Linear(8, 64)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        from torch.utils.checkpoint import checkpoint

        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = checkpoint(layer, hidden, use_reentrant=True)
        return self.head(hidden)  # type: ignore[no-any-return]


class WithParts(nn.Module):
    """A plain model; ``unused`` says which of its parts the loss does not reach."""

    def __init__(self, unused: str) -> None:
        super().__init__()
        self.unused = unused
        self.embed = nn.Embedding(64, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.pooler, self.spare, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 64)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.layers[0](self.embed(input_ids))
        branch = self.layers[1](hidden)
        hidden = hidden + (branch.detach() if self.unused == "detached" else branch)
        for expert in self.experts if self.unused != "experts" else list(self.experts)[:1]:
            hidden = hidden + expert(hidden)
        pooled = self.pooler(hidden) + (0 if self.unused == "spare" else self.spare(hidden))
        return self.head(hidden if self.unused == "pooler" else hidden + pooled)  # type: ignore[no-any-return]


def plain(model: Callable[[], nn.Module]) -> Recipe:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        logits, labels = model(batch["input_ids"]), batch["labels"]
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    return instruction_recipe(
        model, loss=loss, lora=None, full=Full(frozen=["embed"]) if model is Checkpointed else Full()
    )
