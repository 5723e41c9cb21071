"""docs/guides is true: its code runs, what it shows is found, and what it says is not seen is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from repos.mutants import EQUIVALENT
from repos.unseen import HARMLESS

from pytest_ftcheck import check_training
from pytest_ftcheck.checks.catalogue import chosen

from .pages import GUIDES, NEEDS, REPO_OF, REPOS, Guide, Trap, shown

CHECKED = re.compile(r"\[`([\w-]+)`\]\((?:\.\./)?checks\.md#(\w+)\)")
THEMES = {check.id: check.theme for check in chosen()}
# A rounding error is another one on another processor.
ROUNDING = re.compile(r"\d\.\d+e-\d\d")
AS_IT_IS = [(guide, trap) for guide in GUIDES for trap in guide.told_of_itself]
MISTAKES = [
    pytest.param(guide, trap, id=f"{guide.name}-{trap.check or 'unseen'}") for guide, trap in [*shown(), *AS_IT_IS]
]
AUDITED = {mutant.repo for mutant in (*EQUIVALENT, *HARMLESS)}
EVERY_GUIDE = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    """Skip what is about a library that is not there."""
    guide = getattr(request.node, "callspec", None) and request.node.callspec.params.get("guide")
    if guide and guide.repo in NEEDS:
        pytest.importorskip(NEEDS[guide.repo])


def test_there_is_a_guide_for_each_way_to_train() -> None:
    assert {guide.name for guide in GUIDES} == set(REPO_OF)


@EVERY_GUIDE
def test_the_code_of_a_guide_is_that_of_its_repository(guide: Guide) -> None:
    """So it runs wherever the repository does; what is not in the repository is in files that the tests here write."""
    sources = {file.name: file.read_text(encoding="utf-8") for file in (REPOS / guide.repo).rglob("*.py")}
    assert "conftest.py" in guide.files or guide.conftest == sources["conftest.py"]
    for code in guide.python:
        is_a_call = code.startswith("Recipe") and "..." in code
        assert is_a_call or code in guide.files.values() or any(code in source for source in sources.values()), code


@EVERY_GUIDE
def test_every_check_that_is_named_exists_in_the_theme_that_is_linked(guide: Guide) -> None:
    named = CHECKED.findall(guide.text)
    assert named
    assert [pair for pair in named if THEMES.get(pair[0]) != pair[1]] == []


@pytest.mark.parametrize(("guide", "trap"), MISTAKES)
def test_a_mistake_on_a_page_is_reported_as_the_page_says(guide: Guide, trap: Trap, tmp_path: Path) -> None:
    recipe = guide.recipe(tmp_path / "repo", [trap] if trap.removed else [])
    verdicts = check_training(recipe, methods=[trap.method or "lora"], select=[trap.check or "schedule"])
    told = "\n".join(str(verdict) for verdict in verdicts if verdict.failed)
    assert ROUNDING.sub("*", trap.told.strip()) in ROUNDING.sub("*", told) if trap.told else not told


@EVERY_GUIDE
def test_what_a_page_says_is_not_seen_is_not_and_the_rest_of_it_is_sound(guide: Guide, tmp_path: Path) -> None:
    assert guide.not_seen
    # Where the whole catalogue is tried on a repository elsewhere, its soundness is known.
    shown_here = [] if guide.repo in AUDITED else [trap.check for trap in guide.traps if trap.told]
    verdicts = check_training(
        guide.recipe(tmp_path / "repo"), methods=["lora"], select=[*guide.not_seen, *dict.fromkeys(shown_here)]
    )
    found = {verdict.check: (verdict.status, verdict.reason) for verdict in verdicts}
    assert {check: found.pop(check) for check in guide.not_seen} == {
        check: ("not applicable", why) for check, why in guide.not_seen.items()
    }
    assert set(found.values()) <= {("passed", "")}
