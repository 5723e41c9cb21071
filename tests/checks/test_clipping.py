from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.update_loops import Optimizer, adamw, alarms, clip, loop_recipe, nothing

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.loop import epochs

VerdictOn = Callable[..., Verdict]

# Below the norms of the instruction task's gradients, which are 0.3 to 2.
LIMIT = 0.1


def clipping(before_step: Callable[[Job], None], limit: float | None = LIMIT, **parts: Any) -> Recipe:
    return loop_recipe(loop={"before_step": before_step}, max_grad_norm=limit, **parts)


def clip_values(job: Job) -> None:
    torch.nn.utils.clip_grad_value_(job.model.parameters(), 0.01)


def clip_each(job: Job) -> None:
    for parameter in job.model.parameters():
        if parameter.grad is not None:
            torch.nn.utils.clip_grad_norm_([parameter], 0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clipping_to_the_declared_norm_raises_no_alarm(dtype: str) -> None:
    recipe = clipping(functools.partial(clip, limit=LIMIT), dtype=dtype)
    assert [*alarms(recipe), *alarms(recipe, "full")] == []


def test_lost_clipping_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("clipping-as-declared", clipping(nothing))
    assert verdict.findings[0].summary == "4 of 4 updates are not clipped to the declared norm 0.1"
    assert "the gradients are not clipped" in verdict.findings[0].cause


def test_lost_clipping_that_nothing_would_have_been_clipped_by_is_no_finding(verdict_on: VerdictOn) -> None:
    assert verdict_on("clipping-as-declared", clipping(nothing, limit=100.0)).status == "passed"


def test_clipping_to_less_than_declared_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("clipping-as-declared", clipping(functools.partial(clip, limit=LIMIT / 2)))
    assert "another limit than the declared one" in verdict.findings[0].cause


def test_a_limit_that_leaves_nothing_is_found_undeclared(verdict_on: VerdictOn) -> None:
    tiny = clipping(functools.partial(clip, limit=1e-3), limit=None)
    assert "about 0.001" in verdict_on("clipping-leaves-a-gradient", tiny).findings[0].cause
    assert verdict_on("clipping-as-declared", tiny).status == "not applicable"


def test_clipping_after_each_micro_batch_is_found(verdict_on: VerdictOn) -> None:
    per_micro_batch = functools.partial(clip, limit=LIMIT)
    recipe = loop_recipe(loop={"after_backward": per_micro_batch, "before_step": nothing})
    assert "between micro-batches" in verdict_on("clipping-once-an-update", recipe).findings[0].summary


def test_clipping_each_parameter_by_itself_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("clipping-by-the-global-norm", clipping(clip_each, limit=None))
    assert "clipped one by one, to norm 0.01" in verdict.findings[0].summary


def test_clipping_values_is_a_choice() -> None:
    assert alarms(clipping(clip_values, limit=None)) == []


def scaled(job: Job, *, unscale: bool) -> None:
    """A loop with a gradient scaler, which unscales before it clips, or when it steps."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    optimizer: Optimizer = adamw(job)
    windows = epochs(job)
    for _ in range(job.steps):
        window = next(windows)
        for rows in window:
            scaler.scale(job.loss(job.model, job.collate(rows)) / len(window)).backward()
        if unscale:
            scaler.unscale_(optimizer)
        clip(job)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def test_clipping_scaled_gradients_is_found(verdict_on: VerdictOn) -> None:
    recipe = loop_recipe().replace(train=functools.partial(scaled, unscale=False))
    verdict = verdict_on("clipping-after-unscaling", recipe)
    assert "gradients are scaled by 4096 when they are clipped" in verdict.findings[0].summary


def test_a_gradient_scaler_in_its_place_raises_no_alarm(verdict_on: VerdictOn) -> None:
    recipe = loop_recipe(max_grad_norm=1.0).replace(train=functools.partial(scaled, unscale=True))
    assert alarms(recipe) == []
    assert verdict_on("clipping-after-unscaling", recipe).status == "passed"
