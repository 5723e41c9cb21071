from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from checks.update_loops import Optimizer, adamw, alarms, loop_recipe, step_and_zero

from pytest_ftcheck import Full, Job
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]


def test_an_optimizer_rebuilt_in_each_epoch_is_found_and_its_updates_are_counted(verdict_on: VerdictOn) -> None:
    def rebuild(job: Job, optimizer: Optimizer, update: int) -> Any:
        return adamw(job) if update in (3, 6) else None

    verdict = verdict_on("optimizer-remembers", loop_recipe(loop={"begin": rebuild}))
    assert verdict.findings[0].summary == "2 of 8 updates begin with an optimizer made anew"
    assert verdict.findings[0].evidence == ("before updates 4, 7",)


def test_a_state_that_is_cleared_is_found(verdict_on: VerdictOn) -> None:
    def clear(job: Job, optimizer: Optimizer, update: int) -> None:
        if update == 5:
            optimizer.state.clear()

    verdict = verdict_on("optimizer-remembers", loop_recipe(loop={"begin": clear}))
    assert verdict.findings[0].summary == "the optimizer's state counts 3 steps after 8 updates"


def test_a_state_that_is_loaded_before_the_training_is_none_of_our_business(verdict_on: VerdictOn) -> None:
    def loaded(job: Job) -> Optimizer:
        optimizer = adamw(job)
        for parameter in optimizer.param_groups[0]["params"]:
            moments = {name: torch.ones_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(50.0), **moments}
        return optimizer

    recipe = loop_recipe(loop={"optimizer": loaded})
    assert verdict_on("step-follows-its-rule", recipe).status == "not applicable"
    assert alarms(recipe) == []


def test_steps_that_go_elsewhere_are_found(verdict_on: VerdictOn) -> None:
    class Backwards(torch.optim.AdamW):
        """Called AdamW wherever it is printed."""

    def half(optimizer: Optimizer, *_: Any) -> None:
        with torch.no_grad():
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.mul_(0.9)

    def decayed_besides(job: Job) -> Optimizer:
        optimizer = adamw(job)
        optimizer.register_step_post_hook(half)
        return optimizer

    verdict = verdict_on("step-follows-its-rule", loop_recipe(loop={"optimizer": decayed_besides}))
    assert "something else writes to the parameters in the step" in verdict.findings[0].cause
    own = loop_recipe(loop={"optimizer": lambda job: Backwards(job.model.parameters(), lr=job.lr)})
    assert verdict_on("step-follows-its-rule", own).status == "not applicable"


def test_weights_that_are_put_back_between_updates_are_found(verdict_on: VerdictOn) -> None:
    def shrink(optimizer: Optimizer) -> None:
        step_and_zero(optimizer)
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].mul_(0.5)

    verdict = verdict_on("weights-move-in-updates-alone", loop_recipe(loop={"step": shrink}))
    assert verdict.findings[0].summary == "1 of 16 tensors change between updates 1 and 2"


def test_bfloat16_at_a_usual_rate_raises_no_alarm() -> None:
    assert alarms(loop_recipe(dtype="bfloat16"), "full") == []


def test_bfloat16_at_a_rate_below_its_spacing_is_found(verdict_on: VerdictOn) -> None:
    recipe = loop_recipe(dtype="bfloat16", full=Full(lr=1e-6))
    assert "16 of 16 matrices" in verdict_on("updates-survive-rounding", recipe, "full").findings[0].summary
    assert verdict_on("updates-survive-rounding", loop_recipe(full=Full(lr=1e-6)), "full").status == "not applicable"
