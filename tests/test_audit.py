"""``pytest --ftcheck-audit``, the listing of the catalogue, and the audit of the stack."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from pretended import BROKEN, NOWHERE, SOUND, pretend

from pytest_ftcheck import stack
from pytest_ftcheck.checks.check import Check
from pytest_ftcheck.checks.verdict import Verdict

QUIET = ("--ftcheck-audit", "--ftcheck-device=cpu", "-p", "no:cacheprovider")
RECIPE = """
    import pytest
    from pytest_ftcheck import Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(name="{name}", model=print, train_data=[1])
"""
ORDINARY = "def test_ordinary(): pass"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A repository with a recipe and a test file."""
    pytester.makeconftest(RECIPE.format(name="mine"))
    pytester.makepyfile(test_it=ORDINARY)
    return pytester


@pytest.fixture(autouse=True)
def _pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SOUND, NOWHERE)


def ids(project: pytest.Pytester, *arguments: str) -> list[str]:
    """The node ids that are collected."""
    result = project.runpytest_inprocess(*QUIET, "--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line]


def in_folder(project: pytest.Pytester, folder: str, name: str | None = None) -> None:
    path = project.mkdir(folder)
    (path / "test_inside.py").write_text(ORDINARY)
    if name:
        (path / "conftest.py").write_text("\n".join(line[4:] for line in RECIPE.format(name=name).splitlines()))


AUDIT = [f"ftcheck-audit::{method}-{check}" for method in ("full", "lora") for check in (SOUND.id, NOWHERE.id)]


def test_the_items_are_named_by_method_and_check_and_no_test_file_is_collected(project: pytest.Pytester) -> None:
    assert ids(project) == AUDIT
    result = project.runpytest_inprocess(*QUIET)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "ftcheck-audit .n.n*",
            "*= ftcheck: the catalogue of checks =*",
            "mine, full: 1 passed, 1 not applicable",
            "mine, lora: 1 passed, 1 not applicable",
            "*= 2 passed, 2 not applicable in *",
        ]
    )


def test_a_test_file_that_is_given_by_name_is_collected_besides(project: pytest.Pytester) -> None:
    in_folder(project, "inner")
    assert ids(project, ".", "test_it.py") == [*AUDIT, "test_it.py::test_ordinary"]
    assert ids(project, "test_it.py") == [*AUDIT, "test_it.py::test_ordinary"]
    inner = "inner/test_inside.py::test_ordinary"
    assert ids(project, inner) == [*(f"inner/{id}" for id in AUDIT), inner]


def test_a_folder_after_the_option_is_a_folder(project: pytest.Pytester) -> None:
    in_folder(project, "inner", "inner")
    assert ids(project, "inner") == [f"inner/{id}" for id in AUDIT]
    result = project.runpytest_inprocess("--ftcheck-audit", "inner", "--ftcheck-device=cpu", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["inner, full: 1 passed, 1 not applicable"])


def test_recipes_of_folders_below_are_audited_too_each_once(project: pytest.Pytester) -> None:
    for folder, name in (("a", "other"), ("b", None)):
        in_folder(project, folder, name)
    assert ids(project) == [*AUDIT, *(f"a/{id}" for id in AUDIT)]
    assert ids(project, "b", "a") == [*(f"b/{id}" for id in AUDIT), *(f"a/{id}" for id in AUDIT)]


def test_a_recipe_below_is_found_where_there_is_none_above(pytester: pytest.Pytester) -> None:
    in_folder(pytester, "training", "inner")
    assert ids(pytester) == [f"training/{id}" for id in AUDIT]


def test_without_any_recipe_the_embedded_one_is_audited_with_a_warning(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*QUIET, "-W", "default")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*PytestWarning: ftcheck: no ft_recipe is defined here; the embedded one is audited",
            "narrow, full: 1 passed*",
        ]
    )


def test_a_node_id_of_the_audit_runs_again(project: pytest.Pytester) -> None:
    in_folder(project, "inner", "inner")
    assert ids(project, AUDIT[2]) == [AUDIT[2]]
    assert ids(project, f"inner/{AUDIT[1]}", f"inner/{AUDIT[2]}") == [f"inner/{id}" for id in AUDIT[1:3]]
    assert ids(project, "ftcheck-audit")[:4] == AUDIT
    result = project.runpytest_inprocess(*QUIET, "ftcheck-audit::lora-unknown")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no item ftcheck-audit::lora-unknown; --ftcheck-list-checks shows the checks"])


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("-k", "lora"), AUDIT[2:]),
        (("-k", "adapter"), [AUDIT[1], AUDIT[3]]),
        (("--ftcheck-checks=adapter",), [AUDIT[1], AUDIT[3]]),
        (("--ftcheck-checks=name-is-sound", "--ftcheck-methods=lora"), AUDIT[2:3]),
        (("-m", "gpu"), []),
        (("--deselect", AUDIT[0]), AUDIT[1:]),
    ],
)
def test_items_are_selected_as_tests_are(project: pytest.Pytester, arguments: tuple[str, ...], left: list[str]) -> None:
    assert ids(project, *arguments) == left


def test_the_first_failure_ends_it_and_can_be_run_again(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND, BROKEN)
    result = project.runpytest_inprocess("--ftcheck-audit", "--ftcheck-device=cpu", "-x")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED ftcheck-audit::full-labels-are-right - *3 of 4 labels are wrong"])
    result = project.runpytest_inprocess("--ftcheck-audit", "--ftcheck-device=cpu", "--lf")
    assert [line for line in result.outlines if "FAILED" in line and "lora" in line] == []
    result.stdout.fnmatch_lines(["ftcheck-audit F*", "*= 1 failed, 3 deselected in *"])


def test_junit_files_have_the_items(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUIET, "--junitxml=out.xml")
    cases = [(case.get("classname"), case.get("name")) for case in ElementTree.parse("out.xml").iter("testcase")]
    assert cases == [("ftcheck-audit", id.partition("::")[2]) for id in AUDIT]


def test_quiet_sessions_have_no_section_unless_something_failed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the catalogue" not in project.runpytest_inprocess(*QUIET, "-q").stdout.str()
    pretend(monkeypatch, BROKEN)
    assert "the catalogue" in project.runpytest_inprocess(*QUIET, "-q").stdout.str()


NOTHING = [("-k", "nothing"), ("--ftcheck-checks=adapter",), ("--ftcheck-methods=lroa",), ("-m", "gpu")]


@pytest.mark.parametrize("arguments", NOTHING)
def test_a_session_in_which_nothing_was_examined_has_failed(
    project: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    result = project.runpytest_inprocess(*QUIET, *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ftcheck: --ftcheck-audit: 0 checks found anything to look at"])


def test_expected_failures_come_from_the_configuration_file(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND, BROKEN)
    project.makeini(
        "[pytest]\nftcheck_expected_failures =\n    labels-are-right: see #12\n    lora-name-is-sound: see #13\n"
    )
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(passed=1, failed=1, xfailed=2)
    result.stdout.fnmatch_lines(["  lora-name-is-sound: expected to fail (see #13), and passed: remove it from *"])


WRONG = [
    (("--ftcheck-checks=conduc",), "--ftcheck-checks: no check or theme 'conduc'; allowed, for example: conduct"),
    (("--ftcheck-checks=a,,b",), "--ftcheck-checks is 'a,,b'; allowed: names with commas between them"),
    (("--ftcheck-expected-failures=conduct: no",), "--ftcheck-expected-failures: expected_failures names 'conduct'; *"),
    (("--ftcheck-expected-failures=x",), "*-expected-failures is 'x'; allowed: lines of the form 'check-id: reason'"),
    (("--ftcheck-time-limit=0",), "--ftcheck-time-limit is '0'; allowed: a number of seconds greater than 0"),
    (("--ftcheck-audit=stack", "--ftcheck-sabotage"), "--ftcheck-sabotage with --ftcheck-audit=stack: choose one *"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_value_ends_the_session_with_one_line(
    project: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    result = project.runpytest_inprocess(*QUIET, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line)
    assert pytest.LineMatcher([line]).fnmatch_lines([f"ERROR: {message}"]) is None


def test_a_recipe_that_raises_and_a_broken_conftest_are_errors(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RECIPE.format(name="mine").replace("print", "no_such_name"))
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["E *NameError: name 'no_such_name' is not defined"])
    pytester.makeconftest("import no_such_module")
    result = pytester.runpytest_inprocess(*QUIET)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*No module named 'no_such_module'"])


def test_it_needs_no_other_plugin_and_leaves_no_file(project: pytest.Pytester) -> None:
    before = sorted(path for path in project.path.rglob("*") if "__pycache__" not in path.parts)
    result = project.runpytest_inprocess(*QUIET, "-p", "no:xdist", "-p", "no:benchmark")
    assert result.ret == pytest.ExitCode.OK
    assert sorted(path for path in project.path.rglob("*") if "__pycache__" not in path.parts) == before


def test_the_environment_turns_it_on_and_the_command_line_off(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_AUDIT", "recipe")
    arguments = ("--ftcheck-device=cpu", "-p", "no:cacheprovider")
    project.runpytest_inprocess(*arguments).stdout.fnmatch_lines(["ftcheck-audit .n.n*"])
    project.runpytest_inprocess(*arguments, "--ftcheck-audit=off").stdout.fnmatch_lines(["test_it.py .*"])


TRAINING = """
    import os, pytest
    from pytest_ftcheck.tasks import NARROW, planted_recipe
    from pytest_ftcheck.training import train

    def counting(job):
        with open(os.environ.get("TRAINED", os.devnull), "a") as log:
            log.write(f"{type(job.method).__name__}\\n")
        train(job)

    @pytest.fixture(scope="session")
    def ft_recipe():
        return planted_recipe(NARROW, "mine").replace(train=counting)
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "-n 2"])
def test_each_method_is_trained_once_however_many_checks_and_workers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    pytester.makeconftest(TRAINING)
    monkeypatch.setenv("TRAINED", str(tmp_path / "log"))
    chosen = "--ftcheck-checks=training-completes,labels-shifted-once"
    result = pytester.runpytest_subprocess(*QUIET, chosen, *arguments)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["mine, full: 1 passed, 1 not applicable", "mine, lora: 1 passed, 1 not applicable"])
    assert sorted((tmp_path / "log").read_text().split()) == ["Full", "LoRA"]


def test_a_hanging_training_is_ended_at_the_time_limit(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, Check("it-trains", "conduct", "it trains", lambda evidence: evidence.trace.updates[:0], ()))
    pytester.makeconftest(TRAINING.replace("train(job)\n", "while True: pass\n"))
    result = pytester.runpytest_inprocess(*QUIET, "--ftcheck-methods=lora", "--ftcheck-time-limit=0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["lora: train(job) of 8 updates took longer than 0.5 s"])


class PretendedSubject:
    """A subject of the stack audit with verdicts of these statuses."""

    def __init__(self, id: str, *statuses: str) -> None:
        self.id, self._statuses = id, statuses

    def examine(self, seed: int = 0) -> list[Verdict]:
        return [Verdict(self.id, "adapter", "lora", "a claim", status, reason=status) for status in self._statuses]


def test_the_stack_audit_has_an_item_for_each_subject(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = (
        PretendedSubject("sound", "passed", "not applicable"),
        PretendedSubject("broken", "failed", "passed"),
        PretendedSubject("absent", "not applicable"),
        PretendedSubject("known", "expected failure", "not applicable"),
        PretendedSubject("empty"),
    )
    monkeypatch.setattr(stack, "subjects", lambda: subjects)
    result = pytester.runpytest_inprocess("--ftcheck-audit=stack", "-p", "no:cacheprovider", "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "ftcheck-stack::sound PASSED*",
            "ftcheck-stack::broken FAILED*",
            "ftcheck-stack::absent NOT APPLICABLE*",
            "ftcheck-stack::known XFAIL*",
            "ftcheck-stack::empty SKIPPED*",
        ]
    )


def test_checks_are_listed_without_collecting_and_without_torch(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text("raise SystemExit")
    script = (
        "import sys, pytest\n"
        "code = pytest.main(['--ftcheck-list-checks', '-p', 'no:cacheprovider'])\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)), int(code))"
    )
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_ftcheck.plugin"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    lines = result.stdout.splitlines()
    assert lines[-1] == "HEAVY [] 0"
    assert any(line.startswith("  labels-shifted-once: ") for line in lines)
    assert "labels" in lines


def test_the_list_can_be_of_a_theme(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--ftcheck-list-checks", "--ftcheck-checks=adapter")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[0].startswith("1 checks; ")
    result = pytester.runpytest_inprocess("--ftcheck-list-checks", "--ftcheck-checks=adaptor")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ftcheck-checks: no check or theme 'adaptor'; allowed, for example: adapter"])
