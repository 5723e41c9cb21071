from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
from pretended import BLOCKED, BROKEN, FINDING, FULL_ONLY, NOWHERE, RAISES, SOUND, pretend

from pytest_ftcheck import Recipe, check_training
from pytest_ftcheck.checks.check import Check, Finding
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.evidence.evidence import Evidence

RECIPE = Recipe(name="mine", model=print, train_data=[1])  # type: ignore[arg-type]


def statuses(*checks: Check, recipe: Recipe = RECIPE, **arguments: object) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, *checks)
        return {v.id: v.status for v in check_training(recipe, **arguments)}  # type: ignore[arg-type]


def test_there_is_a_verdict_for_each_method_and_check_in_order() -> None:
    assert statuses(SOUND, BROKEN, NOWHERE, FULL_ONLY) == {
        "full-name-is-sound": "passed",
        "full-labels-are-right": "failed",
        "full-merged-as-trained": "not applicable",
        "full-all-parameters-train": "passed",
        "lora-name-is-sound": "passed",
        "lora-labels-are-right": "failed",
        "lora-merged-as-trained": "not applicable",
        "lora-all-parameters-train": "not applicable",
    }


def test_a_verdict_has_all_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, BROKEN)
    (verdict,) = check_training(RECIPE, methods=["lora"])
    assert (verdict.findings, verdict.claim, verdict.recipe) == ((FINDING,), "labels are right", "mine")
    assert verdict.links == ("https://bugs.example/1",)
    assert verdict.seconds >= 0


def test_nothing_is_raised_for_a_training_or_a_check_that_fails() -> None:
    found = statuses(BLOCKED, RAISES, methods=["lora"])
    assert found == {"lora-loss-falls": "blocked", "lora-weights-are-there": "error"}


def test_a_warning_is_no_finding_even_where_warnings_are_errors() -> None:
    def warns(evidence: Evidence) -> list[Finding]:
        warnings.warn("merged already", UserWarning, stacklevel=1)
        return []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statuses(Check("warns", "adapter", "", warns, ()), methods=["lora"]) == {"lora-warns": "passed"}


def test_checks_are_selected_by_id_and_theme() -> None:
    assert list(statuses(SOUND, BROKEN, NOWHERE, select=["labels", NOWHERE.id], methods=["full"])) == [
        "full-labels-are-right",
        "full-merged-as-trained",
    ]


def test_expected_failures_are_strict_and_may_be_of_one_method() -> None:
    both = {SOUND.id: "no", BROKEN.id: "known"}
    assert statuses(SOUND, BROKEN, methods=["lora"], expected_failures=both) == {
        "lora-name-is-sound": "stale",
        "lora-labels-are-right": "expected failure",
    }
    one = {f"full-{BROKEN.id}": "known"}
    assert statuses(BROKEN, expected_failures=one) == {
        "full-labels-are-right": "expected failure",
        "lora-labels-are-right": "failed",
    }


def test_a_training_that_fails_is_not_excused_by_an_expected_failure() -> None:
    assert statuses(BLOCKED, methods=["lora"], expected_failures={BLOCKED.id: "known"}) == {
        "lora-loss-falls": "blocked"
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["lroa"]}, "no method 'lroa' in the recipe; allowed: full, lora"),
        ({"select": ["lables"]}, "no check or theme 'lables'; allowed, for example: labels"),
        ({"expected_failures": {"labels": "x"}}, "expected_failures names 'labels'"),
        ({"expected_failures": {BROKEN.id: ""}}, "allowed: the reason, as a text"),
    ],
)
def test_names_that_do_not_exist_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        statuses(BROKEN, **arguments)  # type: ignore[arg-type]


def test_methods_are_those_that_the_recipe_declares() -> None:
    assert list(statuses(SOUND, recipe=RECIPE.replace(full=None))) == ["lora-name-is-sound"]


def test_importing_it_imports_no_torch() -> None:
    script = "import sys, pytest_ftcheck; pytest_ftcheck.check_training; print('torch' in sys.modules)"
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=path)
    assert result.stdout == "False\n"
