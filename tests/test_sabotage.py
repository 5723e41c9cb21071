"""``--ftcheck-sabotage``: who notices a broken recipe."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pretended import BROKEN, IMPOSSIBLE, RENAMED, SILENT, SOUND, UNSEEN, pretend

from pytest_ftcheck import Full, LoRA, Recipe
from pytest_ftcheck.checks.check import Check, Finding, Sabotage
from pytest_ftcheck.errors import NotApplicable, TrainingError
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.rehearsal import Rehearsal
from pytest_ftcheck.sabotage import broken_methods, first_check_to_notice, likely_first

ARGUMENTS = ("--ftcheck-audit", "--ftcheck-sabotage", "--ftcheck-device=cpu", "-p", "no:cacheprovider")
CONFTEST = """
    import pytest
    from pytest_ftcheck import Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(name="mine", model=print, train_data=[1])
"""
# What the catalogue's control "training-raises" does shows in the recipe alone, so that nothing has to be trained.
OWN_TESTS = """
    def test_of_something_else(): assert False
    def test_that_always_fails(ft_recipe): assert False
    def test_that_is_blind(ft_recipe): assert ft_recipe.steps == 500
    def test_that_notices(ft_recipe): assert ft_recipe.train is None
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    return pytester


def test_the_score_says_what_was_noticed_missed_and_not_tried(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SILENT, SOUND)
    result = project.runpytest_inprocess(*ARGUMENTS, "-v")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "ftcheck-sabotage::unseen MISSED*",
            "ftcheck-sabotage::impossible NOT TRIED*",
            "ftcheck-sabotage::renamed PASSED*",
            "*= ftcheck: who notices a broken recipe =*",
            "mine: the catalogue noticed 1 of 2; missed: unseen",
            "mine: your tests: none on ft_recipe passes on the sound recipe*",
            "mine: could not be tried: impossible (the recipe has no such part)",
            "*= 1 passed, 1 missed, 1 not tried in *",
        ]
    )


def test_a_missed_one_fails_on_request(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SILENT, SOUND)
    result = project.runpytest_inprocess(*ARGUMENTS, "--ftcheck-sabotage=strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["nobody noticed: the recipe has another number of seeds"])


def test_trying_nothing_is_a_failure(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(*ARGUMENTS, "-k", "no-such-sabotage")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ftcheck: --ftcheck-sabotage: 0 ways to break the recipe were tried"])


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("-p", "no:xdist")], ids=" ".join)
def test_the_users_own_tests_are_asked_in_a_process_of_their_own(
    project: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    project.makepyfile(test_own=OWN_TESTS)
    project.makeini("[pytest]\naddopts = -q --junitxml=out.xml")
    result = project.runpytest_subprocess("--ftcheck-sabotage", "-k", "training-raises", *arguments)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["mine: your tests noticed 1 of 1"])
    # That of this session, and not of those of the process.
    assert "training-raises" in (project.path / "out.xml").read_text()


def test_tests_that_look_elsewhere_notice_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(test_own=OWN_TESTS.replace("ft_recipe.train is None", "True"))
    result = project.runpytest_subprocess("--ftcheck-sabotage", "-k", "training-raises", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["mine: your tests noticed 0 of 1; missed: training-raises"])


def test_only_files_that_are_given_by_name_are_asked(project: pytest.Pytester) -> None:
    project.makepyfile(test_own=OWN_TESTS, test_other="def test_blind(ft_recipe): pass")
    result = project.runpytest_subprocess("--ftcheck-sabotage", "-k", "training-raises", "test_other.py")
    result.stdout.fnmatch_lines(["mine: your tests noticed 0 of 1; missed: training-raises"])


RECIPE = Recipe(name="mine", model=print, train_data=[1], methods={"thin": LoRA(r=1)})  # type: ignore[arg-type]


def test_adapters_are_broken_first_and_only_methods_of_the_kind() -> None:
    def of(kind: str) -> Sabotage:
        return Sabotage("s", "s", lambda recipe: recipe, kind)  # type: ignore[arg-type]

    assert broken_methods(of("any"), RECIPE) == ["lora", "thin", "full"]
    assert broken_methods(of("full"), RECIPE) == ["full"]
    assert broken_methods(of("adapter"), RECIPE, asked=["full", "thin"]) == ["thin"]
    with pytest.raises(NotApplicable, match="breaks adapter only"):
        broken_methods(of("adapter"), RECIPE.replace(lora=None, methods={}))


def test_its_own_checks_are_asked_first_then_their_themes_then_the_cheap() -> None:
    def check(id: str, theme: str, cost: str, *controls: Sabotage) -> Check:
        return Check(id, theme, "", lambda evidence: [], controls, cost=cost)  # type: ignore[arg-type]

    checks = [
        check("dear", "data", "training"),
        check("cheap", "data", "reading"),
        check("related", "labels", "training"),
        check("own", "labels", "training", RENAMED),
    ]
    assert [c.id for c in likely_first(RENAMED, checks)] == ["own", "related", "cheap", "dear"]


def asked(sabotage: Sabotage, *checks: Check, recipe: Recipe = RECIPE) -> str:
    evidence = {name: Evidence(recipe, name) for name in recipe.declared_methods}
    return first_check_to_notice(sabotage, ["lora", "full"], evidence.__getitem__, checks)


def test_a_check_has_noticed_only_what_it_does_not_report_anyway() -> None:
    assert asked(RENAMED, BROKEN, SOUND) == "lora-name-is-sound"
    assert asked(UNSEEN, BROKEN, SOUND) == ""


def test_a_check_that_breaks_has_noticed_nothing() -> None:
    def raises(evidence: Evidence) -> list[Finding]:
        raise KeyError(evidence.recipe.name)

    assert asked(RENAMED, Check("raises", "conduct", "", raises, (RENAMED,))) == ""


def test_what_cannot_be_broken_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="no such part"):
        asked(IMPOSSIBLE, SOUND)


def test_what_no_check_of_its_own_can_look_at_is_not_tried() -> None:
    def never(evidence: Evidence) -> list[Finding]:
        raise NotApplicable("the loop writes no checkpoint")

    with pytest.raises(NotApplicable, match="writes no checkpoint"):
        asked(UNSEEN, Check("resumes", "resume", "", never, (UNSEEN,)), SOUND)


def test_a_sabotage_that_finds_nothing_to_break_while_training_is_not_tried() -> None:
    def blocked(evidence: Evidence) -> list[Finding]:
        raise TrainingError("lora: train(job) raised NotApplicable: no labels after 0 of 8 updates")

    with pytest.raises(NotApplicable, match=r"^no labels"):
        asked(UNSEEN, Check("labels", "labels", "", blocked, (UNSEEN,)))


def test_a_part_that_the_training_does_not_use_is_not_broken() -> None:
    from recipes import tiny_recipe

    def own_loop(job: object) -> None:
        from pytest_ftcheck.training import train

        train(job.recipe.replace(collate=None) and _without_collate(job))  # type: ignore[attr-defined]

    recipe = tiny_recipe(train=own_loop, full=Full(lr=1e-3))
    ignored = Sabotage("ignored", "", lambda recipe: recipe.replace(collate=lambda rows: rows))
    with pytest.raises(NotApplicable, match="does not use the part"):
        asked(ignored, SILENT, recipe=recipe)


def _without_collate(job: object) -> object:
    import dataclasses

    return dataclasses.replace(job, recipe=job.recipe.replace(collate=None))  # type: ignore[type-var,attr-defined]


def test_tests_on_a_broken_recipe_add_nothing_to_a_job_s_summary(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment: dict[str, str] = {}

    def start(command: list[str], **options: Any) -> None:
        environment.update(options["env"])

    for variable in ("GITHUB_STEP_SUMMARY", "FTCHECK_SEEDS"):
        monkeypatch.setenv(variable, "3")
    monkeypatch.setattr(subprocess, "Popen", start)
    Rehearsal([], tmp_path, with_checks=False)._start()
    assert "GITHUB_STEP_SUMMARY" not in environment
    assert environment["FTCHECK_SEEDS"] == "3"
