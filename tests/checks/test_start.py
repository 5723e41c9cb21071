from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from checks.adapting import recipe
from torch import nn

from pytest_ftcheck import Job, LoRA
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import tiny_llama

VerdictOn = Callable[..., Verdict]


def test_a_model_that_is_kept_between_calls_is_found(verdict_on: VerdictOn) -> None:
    model = tiny_llama()
    verdict = verdict_on("same-seed-same-start", recipe(model=lambda: model), "full")
    assert "are the same memory" in verdict.findings[0].summary


def test_a_head_drawn_by_the_training_itself_must_follow_the_seed(verdict_on: VerdictOn) -> None:
    def train(job: Job, seeded: bool) -> None:
        if seeded:
            torch.manual_seed(job.seed)
        nn.init.normal_(job.model.lm_head.weight)  # type: ignore[union-attr, arg-type]
        loop.train(job)

    for seeded, status in ((True, "passed"), (False, "failed")):
        drawn = recipe(train=functools.partial(train, seeded=seeded))
        assert verdict_on("same-seed-same-start", drawn, "full").status == status
        assert "1 of 21 tensors changed" in str(verdict_on("training-begins-with-the-given-weights", drawn, "full"))


def test_initialisations_that_move_the_base_by_design_are_not_looked_at(verdict_on: VerdictOn) -> None:
    pissa = recipe(lora=LoRA(r=4, alpha=4, target_modules=["q_proj"], init="pissa"))
    assert verdict_on("adapting-leaves-the-base-alone", pissa).status == "not applicable"


def test_old_rows_drawn_anew_by_a_resize_while_adapting_are_found(verdict_on: VerdictOn) -> None:
    def adapt(model: Any, method: Any, redraw: bool) -> nn.Module:
        model.resize_token_embeddings(70)
        if redraw:
            nn.init.normal_(model.lm_head.weight)
        return model  # type: ignore[no-any-return]

    for redraw, status in ((False, "passed"), (True, "failed")):
        resized = recipe(adapt=functools.partial(adapt, redraw=redraw))
        assert verdict_on("adapting-leaves-the-base-alone", resized, "full").status == status
