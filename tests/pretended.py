"""A catalogue of checks that look at nothing but a recipe's name, so that what runs them is tested without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from pytest_ftcheck.checks import catalogue
from pytest_ftcheck.checks.check import Check, Finding, Sabotage
from pytest_ftcheck.errors import NotApplicable, TrainingError
from pytest_ftcheck.evidence.evidence import Evidence

FINDING = Finding("3 of 4 labels are wrong", "the labels are shifted twice", "shift them once", ("row 1: 2",))
RENAMED = Sabotage("renamed", "the recipe is called broken", lambda recipe: recipe.replace(name="broken"))
UNSEEN = Sabotage("unseen", "the recipe has another number of seeds", lambda recipe: recipe.replace(seeds=7))


def _impossible(recipe: object) -> object:
    raise NotApplicable("the recipe has no such part")


IMPOSSIBLE = Sabotage("impossible", "nothing", _impossible)  # type: ignore[arg-type]


def _sound(evidence: Evidence) -> Iterable[Finding]:
    return [FINDING] if evidence.recipe.name == "broken" else []


def _always_broken(evidence: Evidence) -> Iterable[Finding]:
    return [FINDING]


def _silent(evidence: Evidence) -> Iterable[Finding]:
    return []


def _never_applies(evidence: Evidence) -> Iterable[Finding]:
    raise NotApplicable("there is nothing to merge")


def _blocked(evidence: Evidence) -> Iterable[Finding]:
    raise TrainingError("train(job) raised RuntimeError: no more\n  at loop.py:3 in train")


def _raises(evidence: Evidence) -> Iterable[Finding]:
    raise KeyError("weight")


SOUND = Check("name-is-sound", "conduct", "the name is sound", _sound, (RENAMED,))
SILENT = Check("says-nothing", "data", "nothing is said", _silent, (UNSEEN, IMPOSSIBLE), cost="training")
BROKEN = Check(
    "labels-are-right", "labels", "labels are right", _always_broken, (RENAMED,), ("https://bugs.example/1",)
)
NOWHERE = Check("merged-as-trained", "adapter", "merging changes nothing", _never_applies, ())
FULL_ONLY = Check("all-parameters-train", "parameters", "all parameters train", _silent, (), applies="full")
BLOCKED = Check("loss-falls", "learning", "the loss falls", _blocked, ())
RAISES = Check("weights-are-there", "saving", "the weights are there", _raises, ())


def pretend(patch: pytest.MonkeyPatch, *checks: Check) -> None:
    """Let the catalogue consist of ``checks``."""
    patch.setattr(catalogue, "catalogue", lambda: checks)


Pretend = Callable[..., None]
