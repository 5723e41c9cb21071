from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.adapting import recipe

from pytest_ftcheck import Full, Job
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop

VerdictOn = Callable[..., Verdict]


def test_an_optimizer_without_lora_b_is_named_and_lora_a_is_not_blamed(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        for name, parameter in list(job.model.named_parameters()):
            parameter.requires_grad_("lora_A" in name)
        loop_train_keeping_flags(job)

    broken = recipe(train=train)
    verdict = verdict_on("every-trainable-moves", broken)
    assert "4 of 4 trainable tensors with gradients did not move" in str(verdict)
    assert "no optimizer holds them" in str(verdict)
    assert verdict_on("every-trainable-has-a-gradient", broken).status == "passed"


def loop_train_keeping_flags(job: Job) -> None:
    """The loop's optimizer is built from what trains now; only after that do the adapter's other factors train, too."""
    original = torch.optim.AdamW.__init__

    def init(this: Any, *args: Any, **kwargs: Any) -> None:
        original(this, *args, **kwargs)
        for name, parameter in job.model.named_parameters():
            parameter.requires_grad_("lora_" in name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "__init__", init)
        loop.train(job)


def test_weights_put_back_after_training_are_found(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        before = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
        loop.train(job)
        job.model.load_state_dict(before)

    assert "the weights were put back" in str(verdict_on("every-trainable-moves", recipe(train=train), "full"))


def test_updates_lost_to_rounding_are_no_matter_of_this_check(verdict_on: VerdictOn) -> None:
    tiny_steps = recipe(dtype="bfloat16", full=Full(lr=1e-7))
    assert verdict_on("every-trainable-moves", tiny_steps, "full").status == "passed"


def test_a_merge_that_stays_moves_the_frozen_base(verdict_on: VerdictOn) -> None:
    def train(job: Job) -> None:
        loop.train(job)
        job.model.merge_adapter()  # type: ignore[operator]

    verdict = verdict_on("frozen-stay-bit-identical", recipe(train=train))
    assert "4 of 21 frozen tensors changed" in verdict.findings[0].summary
    assert "merged" in verdict.findings[0].cause
