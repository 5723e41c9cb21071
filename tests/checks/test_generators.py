"""Seeds that are set in the loop."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pytest_ftcheck import Job
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama

VerdictOn = Callable[..., Verdict]
ID = "dropout-is-drawn-anew"


def seeded_before_each_pass(job: Job) -> None:
    hook = job.model.register_forward_pre_hook(lambda *_: torch.manual_seed(job.seed) and None)
    try:
        loop.train(job)
    finally:
        hook.remove()


def test_a_seed_in_every_step_is_found(verdict_on: VerdictOn) -> None:
    assert "drop the same units" in str(verdict_on(ID, instruction_recipe(train=seeded_before_each_pass)))


def test_a_rate_that_nothing_draws_by_is_no_dropout(verdict_on: VerdictOn) -> None:
    def declared_only() -> torch.nn.Module:
        model = tiny_llama(attention_dropout=0.0)
        model.some_dropout = 0.1
        return model

    recipe = instruction_recipe(model=declared_only, lora=None, train=seeded_before_each_pass)
    assert verdict_on(ID, recipe, "full").status == "not applicable"
