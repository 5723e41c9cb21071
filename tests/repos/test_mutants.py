"""Mistakes planted in a repository's own code, one at a time, against the catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from guides.pages import is_shown
from repos.loading import recipe_in

from pytest_ftcheck import Recipe, check_training

from .mutants import EQUIVALENT, MUTANTS, NAMED_BY, Mutant
from .unseen import HARMLESS, UNSEEN

# What a repository trains with, besides what the plugin needs.
NEEDS = {"trl_sft": "trl", "lightning": "lightning"}


def mutated(repos: Path, folder: Path, mutant: Mutant) -> Recipe:
    """The recipe of a copy of the mutant's repository with its edits made."""
    shutil.copytree(repos / mutant.repo, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text, replacement in mutant.edits:
        source = (folder / file).read_text(encoding="utf-8")
        assert text in source, (mutant.id, text)
        (folder / file).write_text(source.replace(text, replacement, 1), encoding="utf-8")
    return recipe_in(folder)


# Those that a guide shows are tried in tests/guides, where what is said of them is held to, too.
@pytest.mark.parametrize("mutant", [one for one in MUTANTS if not is_shown(one)], ids=lambda mutant: mutant.id)
def test_a_mistake_is_found_by_a_check_that_names_it(mutant: Mutant, repos: Path, tmp_path: Path) -> None:
    recipe = mutated(repos, tmp_path / "repo", mutant)
    verdicts = check_training(recipe, methods=[mutant.method], select=NAMED_BY[mutant.id])
    assert [verdict.check for verdict in verdicts if verdict.status == "failed"], [str(v) for v in verdicts]


@pytest.mark.parametrize(
    ("mutant", "check"), [pytest.param(one, check, id=one.id) for one, check in UNSEEN if not is_shown(one)]
)
def test_a_mistake_in_another_repository_is_found_by_the_check_that_names_it(
    mutant: Mutant, check: str, repos: Path, tmp_path: Path
) -> None:
    if mutant.repo in NEEDS:
        pytest.importorskip(NEEDS[mutant.repo])
    (verdict,) = check_training(mutated(repos, tmp_path / "repo", mutant), methods=[mutant.method], select=[check])
    assert verdict.status == "failed", str(verdict)


def together(mutants: Sequence[Mutant]) -> Mutant:
    """All of these changes to one repository at once."""
    return Mutant("all", tuple(edit for one in mutants for edit in one.edits), mutants[0].method, mutants[0].repo)


def reported(repos: Path, folder: Path, mutant: Mutant) -> list[str]:
    verdicts = check_training(mutated(repos, folder, mutant), methods=[mutant.method])
    assert sum(verdict.status == "passed" for verdict in verdicts) > 50
    return [str(verdict) for verdict in verdicts if verdict.failed]


SOUND = [*EQUIVALENT, *HARMLESS]


@pytest.mark.parametrize("repo", sorted({mutant.repo for mutant in SOUND}))
def test_equivalent_changes_are_not_reported(repo: str, repos: Path, tmp_path: Path) -> None:
    """All of a repository's at once; one by one where something is reported, to say which."""
    if repo in NEEDS:
        pytest.importorskip(NEEDS[repo])
    mutants = [mutant for mutant in SOUND if mutant.repo == repo]
    assert len({mutant.method for mutant in mutants}) == 1
    found = reported(repos, tmp_path / "all", together(mutants))
    alone = {mutant.id: reported(repos, tmp_path / mutant.id, mutant) for mutant in mutants} if found else {}
    assert not found, (found, alone)
