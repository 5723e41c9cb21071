"""The catalogue as a whole: every check notices what it must, and is silent on what is sound."""

from __future__ import annotations

import pytest

from pytest_ftcheck.checks.catalogue import catalogue
from pytest_ftcheck.checks.check import Check, Sabotage
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.recipe import Recipe
from pytest_ftcheck.tasks.instruction import instruction_recipe

PAIRS = [pytest.param(c, s, id=f"{c.id}-{s.id}") for c in catalogue() for s in c.controls]


def method_for(check: Check, sabotage: Sabotage) -> str:
    return "full" if "full" in (check.applies, sabotage.method) else "lora"


def recipe_for(check: Check) -> Recipe:
    """What a sabotage breaks: where the check is about several processes, a training of two."""
    return instruction_recipe(**({"processes": 2, "strategy": "ddp"} if "processes" in check.needs else {}))


@pytest.mark.parametrize(("check", "sabotage"), PAIRS)
def test_a_check_notices_each_of_its_negative_controls(check: Check, sabotage: Sabotage) -> None:
    recipe = sabotage.apply(recipe_for(check))
    (verdict,) = check_training(recipe, methods=[method_for(check, sabotage)], select=[check.id])
    assert verdict.status in ("failed", "blocked"), verdict
    assert verdict.status == "failed" or check.id in ("training-completes",), verdict


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_check_is_silent_on_the_sound_recipe(method: str) -> None:
    verdicts = check_training(instruction_recipe(), methods=[method])
    assert [str(v) for v in verdicts if v.failed] == []
    assert len(verdicts) == len(catalogue())
