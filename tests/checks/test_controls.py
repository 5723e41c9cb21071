"""The catalogue as a whole: every check notices what it must, says of it what is on record, and is silent on what is
sound.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_ftcheck.checks.catalogue import catalogue, sabotages
from pytest_ftcheck.checks.check import Check, Sabotage
from pytest_ftcheck.checks.controls import verdict_on
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.examples import Example, examples
from pytest_ftcheck.tasks.instruction import instruction_recipe

# Those of one control after each other: they share its trainings.
PAIRS = [pytest.param(c, s, id=f"{c.id}-{s.id}") for s in sabotages() for c in catalogue() if s in c.controls]

PINS = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").split()
# Examples are of the pinned releases: with others a model has other buffers, and a step other FLOPs.
AS_PINNED = all(f"{name}=={version(name).partition('+')[0]}" in PINS for name in ("torch", "transformers", "peft"))


@pytest.mark.parametrize(("check", "sabotage"), PAIRS)
def test_a_check_notices_each_of_its_negative_controls(check: Check, sabotage: Sabotage) -> None:
    verdict = verdict_on(check, sabotage)
    assert verdict.status == "failed", verdict
    if AS_PINNED and sabotage == check.controls[0]:
        shown = examples().get(check.id)
        message = f"python -m pytest_ftcheck.checks.examples {check.id}\nhas {shown}, and today it is {verdict}"
        assert shown is not None, message
        assert Example.of(sabotage.id, verdict).masked() == shown.masked(), message


def test_every_check_has_an_example_and_no_example_is_of_another() -> None:
    assert sorted(examples()) == sorted(check.id for check in catalogue()), "python -m pytest_ftcheck.checks.examples"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_check_is_silent_on_the_sound_recipe(method: str) -> None:
    verdicts = check_training(instruction_recipe(), methods=[method])
    assert [str(v) for v in verdicts if v.failed] == []
    assert len(verdicts) == len(catalogue())
