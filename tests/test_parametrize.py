"""``@parametrize_with_checks()`` and ``ft_check``."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from pretended import BLOCKED, BROKEN, FULL_ONLY, NOWHERE, RAISES, SOUND, pretend

from pytest_ftcheck import parametrize_with_checks
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.parametrize import planned_checks

CONFTEST = """
    import pytest
    from pytest_ftcheck import Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(model=print, train_data=[1])
"""
QUIET = ("--ftcheck-device=cpu", "-p", "no:cacheprovider")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    return pytester


def decorated(arguments: str = "", body: str = "ft_check()") -> str:
    return f"""
        from pytest_ftcheck import parametrize_with_checks

        @parametrize_with_checks({arguments})
        def test_sound(ft_check):
            {body}
    """


def outcome(project: pytest.Pytester, *arguments: str) -> dict[str, int]:
    """What the session's last line counts: ``{"passed": 2, "not applicable": 1}``."""
    last = project.runpytest_inprocess(*QUIET, *arguments).outlines[-1]
    counts = last.strip("= ").partition(" in ")[0].split(", ")
    return {what: int(number) for number, _, what in (count.partition(" ") for count in counts)}


def test_a_test_becomes_one_item_for_each_check_and_method(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND, NOWHERE)
    project.makepyfile(test_it=decorated())
    result = project.runpytest_inprocess("--collect-only", "-q")
    assert result.outlines[:4] == [
        "test_it.py::test_sound[full-name-is-sound]",
        "test_it.py::test_sound[full-merged-as-trained]",
        "test_it.py::test_sound[lora-name-is-sound]",
        "test_it.py::test_sound[lora-merged-as-trained]",
    ]


def test_items_pass_and_what_does_not_apply_is_counted_apart(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND, NOWHERE, FULL_ONLY)
    project.makepyfile(decorated())
    assert outcome(project) == {"passed": 3, "not applicable": 2}
    result = project.runpytest_inprocess(*QUIET, "-v")
    result.stdout.fnmatch_lines(
        [
            "*lora-merged-as-trained* NOT APPLICABLE*",
            "recipe, full: 2 passed, 1 not applicable",
            "recipe, lora: 1 passed, 1 not applicable",
            "  not applicable: there is nothing to merge: full-merged-as-trained, lora-merged-as-trained",
        ]
    )


def test_a_check_has_no_item_for_a_method_that_it_is_not_about(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SOUND, FULL_ONLY)
    assert [plan.id for plan in planned_checks(["full", "lora", "thin"])] == [
        "full-name-is-sound",
        "full-all-parameters-train",
        "lora-name-is-sound",
        "thin-name-is-sound",
        "thin-all-parameters-train",  # whatever "thin" is: the recipe says
    ]


def test_a_failure_is_the_verdict_number_first_and_no_traceback(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, BROKEN)
    project.makepyfile(test_it=decorated("methods=['lora']"))
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "3 of 4 labels are wrong",
            "  row 1: 2",
            "  likely cause: the labels are shifted twice",
            "  remedy: shift them once",
            "  claim: labels are right",
            "  see: https://bugs.example/1",
            "  lora-labels-are-right: 3 of 4 labels are wrong",
            "FAILED *[[]lora-labels-are-right[]] - *3 of 4*",
        ],
        consecutive=False,
    )
    for file in ("examination.py", "outcome.py", "fixtures.py"):
        assert file not in result.stdout.str()


def test_the_same_failure_fails_again(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, BROKEN)
    project.makepyfile(decorated())
    assert outcome(project) == outcome(project) == {"failed": 2}


def test_an_expected_failure_is_xfail_with_its_reason(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, BROKEN)
    project.makepyfile(decorated("expected_failures={'labels-are-right': 'known as #12'}"))
    assert outcome(project) == {"xfailed": 2}
    result = project.runpytest_inprocess(*QUIET, "-rx")
    result.stdout.fnmatch_lines(["XFAIL *full-labels-are-right* - *known as #12"])


def test_runxfail_reports_an_expected_failure_as_a_failure(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, BROKEN)
    project.makepyfile(decorated("expected_failures={'labels-are-right': 'known as #12'}"))
    assert outcome(project, "--runxfail") == {"failed": 2}


def test_a_stale_expected_failure_fails_and_one_of_a_single_method_leaves_the_other_alone(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND)
    project.makepyfile(decorated("expected_failures={'lora-name-is-sound': 'known as #12'}"))
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["expected to fail (known as #12), and passed: remove it from expected_failures"])


def test_a_training_that_blocks_checks_is_told_whole_once(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, BLOCKED)
    project.makepyfile(decorated())
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=2)
    assert result.outlines.count("  at loop.py:3 in train") == 1
    result.stdout.fnmatch_lines(["  1 blocked by train(job) raised RuntimeError: no more"])


def test_a_check_that_breaks_fails_and_says_where(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, RAISES)
    project.makepyfile(decorated())
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["the check itself raised KeyError: 'weight'", "  at *pretended.py:* in _raises"])


def test_a_method_that_the_recipe_does_not_declare_is_not_applicable(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SOUND)
    project.makeconftest(CONFTEST.replace("train_data=[1]", "train_data=[1], full=None"))
    project.makepyfile(decorated("methods=['full', 'lora', 'thin']"))
    assert outcome(project) == {"passed": 1, "not applicable": 2}


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        (("--ftcheck-checks=name-is-sound",), {"passed": 2, "deselected": 2}),
        (("--ftcheck-checks=conduct,adapter",), {"passed": 2, "not applicable": 2}),
        (("--ftcheck-methods=lora",), {"passed": 1, "deselected": 2, "not applicable": 1}),
        (("-k", "adapter"), {"deselected": 2, "not applicable": 2}),
        (("-k", "lora and name-is-sound"), {"passed": 1, "deselected": 3}),
    ],
)
def test_options_select_by_id_theme_and_method(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], counts: dict[str, int]
) -> None:
    pretend(monkeypatch, SOUND, NOWHERE)
    project.makepyfile(decorated())
    assert outcome(project, *arguments) == counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"select": ["label"]}, "no check or theme 'label'; allowed, for example: labels"),
        ({"expected_failures": {"labels": "x"}}, "expected_failures names 'labels'; allowed: ids of checks"),
        ({"expected_failures": {"labels-are-right": " "}}, r"\['labels-are-right'\] is ' '; allowed: the reason"),
    ],
)
def test_unknown_names_and_empty_reasons_are_refused_where_they_are_written(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    pretend(monkeypatch, BROKEN)
    with pytest.raises(RecipeError, match=message):
        parametrize_with_checks(**arguments)  # type: ignore[arg-type]


def test_a_test_that_does_not_call_its_check_fails(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SOUND)
    project.makepyfile(decorated(body="pass"))
    result = project.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["ftcheck: the test ended without calling ft_check()"])


REFUSED = {
    "no decorator": (
        CONFTEST,
        "def test_it(ft_check): pass",
        "ftcheck: ft_check is for tests with @parametrize_with_*",
    ),
    "no recipe": (
        CONFTEST.replace("Recipe(model=print, train_data=[1])", "3"),
        None,
        "ftcheck: ft_recipe returned int*",
    ),
    "recipe raises": (CONFTEST.replace("print", "no_model"), None, "E *NameError: name 'no_model' is not defined"),
    "of a test": (CONFTEST.replace('scope="session"', ""), None, "ScopeMismatch: *function scoped fixture ft_recipe*"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_says_why(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    conftest, test, message = REFUSED[name]
    pretend(monkeypatch, SOUND)
    pytester.makeconftest(conftest)
    pytester.makepyfile(test or decorated("methods=['full']"))
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_junit_files_have_the_verdict(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, BROKEN)
    project.makepyfile(decorated("methods=['lora']"))
    project.runpytest_inprocess(*QUIET, "--junitxml=out.xml")
    (case,) = ElementTree.parse(project.path / "out.xml").iter("testcase")
    found = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
    assert found.pop("ftcheck.seconds")
    assert found == {
        "ftcheck.recipe": "recipe",
        "ftcheck.method": "lora",
        "ftcheck.check": "labels-are-right",
        "ftcheck.theme": "labels",
        "ftcheck.status": "failed",
        "ftcheck.findings": "1",
    }


def collected(project: pytest.Pytester, hash_seed: str) -> str:
    """What a process of its own collects, and which heavy modules it has imported by then."""
    script = (
        "import sys, pytest\n"
        "pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider'])\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'peft', 'numpy', 'scipy', 'accelerate'} & set(sys.modules)))"
    )
    # Only our plugin: others have imports of their own.
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_ftcheck.plugin"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    return "\n".join(line for line in result.stdout.splitlines() if "collected" not in line)


def test_ids_are_the_same_in_every_process_and_collecting_imports_nothing_heavy(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=decorated())
    first = collected(project, "1")
    assert "test_it.py::test_sound[full-labels-shifted-once]" in first
    assert first.endswith("HEAVY []")
    assert first == collected(project, "2")


def test_workers_run_them(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    project.makepyfile(decorated("select=['labels-shifted-once'], methods=['thin']", "ft_check()"))
    result = project.runpytest_subprocess(*QUIET, "-n", "2")
    result.stdout.fnmatch_lines(["recipe, thin: 1 not applicable", "*= 1 not applicable in *"])
