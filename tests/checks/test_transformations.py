from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.activations import enable_checkpointing
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama
from pytest_ftcheck.training import adapt

CHECKPOINTING = "checkpointing-keeps-the-gradient"

VerdictOn = Callable[..., Verdict]


def adapted_and_checkpointed(*, reentrant: bool, inputs_require_gradients: bool, train_head: bool) -> Any:
    def made(model: nn.Module, method: Any) -> nn.Module:
        adapted = adapt(model, method)
        enable_checkpointing(adapted, reentrant)
        if not inputs_require_gradients:
            adapted.get_input_embeddings()._forward_hooks.clear()  # type: ignore[operator, union-attr]
        if train_head:
            adapted.get_output_embeddings().requires_grad_(True)  # type: ignore[operator, union-attr]
        return adapted

    return made


@pytest.mark.parametrize(("train_head", "lost"), [(True, "8 of 17 trainable tensors"), (False, "0 gradients")])
def test_reentrant_checkpointing_over_frozen_embeddings_is_found(
    verdict_on: VerdictOn, train_head: bool, lost: str
) -> None:
    parts = adapted_and_checkpointed(reentrant=True, inputs_require_gradients=False, train_head=train_head)
    verdict = verdict_on(CHECKPOINTING, instruction_recipe(adapt=parts))
    assert verdict.status == "failed", verdict
    assert lost in verdict.findings[0].summary
    assert "reentrant" in verdict.findings[0].cause


@pytest.mark.parametrize(("reentrant", "inputs"), [(True, True), (False, False), (False, True)])
def test_sound_checkpointing_is_no_finding(verdict_on: VerdictOn, reentrant: bool, inputs: bool) -> None:
    parts = adapted_and_checkpointed(reentrant=reentrant, inputs_require_gradients=inputs, train_head=False)
    assert verdict_on(CHECKPOINTING, instruction_recipe(adapt=parts)).status == "passed"


class OwnCheckpointing(nn.Module):
    """A model that checkpoints by itself, with dropout whose generator is restored or not."""

    def __init__(self, restored: bool) -> None:
        super().__init__()
        self.inner, self.restored = tiny_llama(), restored
        self.wide = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.inner(input_ids, attention_mask=attention_mask).logits
        logits = checkpoint(self.wide, logits, use_reentrant=False, preserve_rng_state=self.restored)
        if labels is None:
            return {"logits": logits}
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("restored", [True, False])
def test_dropout_that_is_drawn_anew_in_the_second_pass_is_found(verdict_on: VerdictOn, restored: bool) -> None:
    verdict = verdict_on(CHECKPOINTING, instruction_recipe(model=lambda: OwnCheckpointing(restored), lora=None), "full")
    assert verdict.status == ("passed" if restored else "failed"), verdict
    assert restored or "not the first one" in verdict.findings[0].cause
