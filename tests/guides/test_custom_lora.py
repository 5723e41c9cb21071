"""docs/guides/custom-lora.md: its own tests pass, and each notices the mistake that the page names beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from repos.loading import recipe_in

from pytest_ftcheck import check_training
from pytest_ftcheck.execution import execute

from .pages import GUIDES, Guide

pytest.importorskip("hypothesis")

QUIET = ("-p", "no:cacheprovider", "-q", "--ftcheck-device=cpu", "--ftcheck-steps=2")
FEW = ("-k", "output-is-base-plus-update or merged_model or declaration")
# Mistake of the page's last table -> what is to be changed for it in my_lora.py.
MISTAKES = {
    "`self.scaling = alpha`": ("base_layer, alpha / r", "base_layer, alpha"),
    "a `merge` that forgets `layer.scaling`": ("layer.scaling * (layer", "(layer"),
}


@pytest.fixture
def guide() -> Guide:
    (found,) = (guide for guide in GUIDES if guide.name == "custom-lora")
    return found


@pytest.fixture
def repo(guide: Guide, pytester: pytest.Pytester) -> pytest.Pytester:
    for file in guide.written(pytester.path / "repo").glob("*.py"):
        file.rename(pytester.path / file.name)
    pytester.syspathinsert()
    return pytester


def changed(folder: Path, before: str, after: str) -> None:
    file = folder / "my_lora.py"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_the_tests_of_the_page_pass(repo: pytest.Pytester) -> None:
    repo.runpytest_inprocess(*QUIET, *FEW).assert_outcomes(passed=3)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_test_of_the_page_notices_the_mistake_beside_it(guide: Guide, repo: pytest.Pytester, mistake: str) -> None:
    table = guide.text.rpartition("| without them, nobody notices | found by |\n")[2]
    (found_by,) = re.findall(rf"^\| {re.escape(mistake)} \| `(.*)` \|$", table, re.MULTILINE)
    changed(repo.path, *MISTAKES[mistake])
    result = repo.runpytest_inprocess(*QUIET, *FEW, "test_my_lora.py")
    result.assert_outcomes(passed=1, failed=1)
    assert any(line.startswith("FAILED") and found_by in line for line in result.outlines)


def test_the_mistake_in_the_scaling_is_not_noticed_by_the_catalogue(guide: Guide, tmp_path: Path) -> None:
    """As the page says: the same parameters train, and the loss falls."""
    folder = guide.written(tmp_path / "repo")
    changed(folder, *MISTAKES["`self.scaling = alpha`"])
    verdicts = check_training(recipe_in(folder), methods=["lora"], select=["parameters", "adapter", "learning"])
    assert [str(verdict) for verdict in verdicts if verdict.failed] == []


def test_other_names_are_reported_as_the_page_shows(guide: Guide, tmp_path: Path) -> None:
    folder = guide.written(tmp_path / "repo")
    for name, other in (("base_layer", "base"), ("lora_A", "a"), ("lora_B", "b")):
        changed(folder, f".{name}", f".{other}")
    deviations = execute(recipe_in(folder), "lora", 0, 2, "cpu").deviations
    assert any(line in guide.text for line in deviations), deviations
    assert execute(guide.recipe(tmp_path / "sound"), "lora", 0, 2, "cpu").deviations == ()
