"""``ft_baseline`` in sessions: what fails, what is accepted, what is counted, and what is left in the file."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from baseline.entries import an_entry, write
from baseline.regressions import ON_A_GPU, REGRESSIONS, run
from repositories import commit_all, git

TESTS = Path(__file__).parent
QUICK = ("-p", "no:cacheprovider", "--ftcheck-device=cpu")
UPDATE = (*QUICK, "--ftcheck-update", "--ftcheck-reason=the first")

# A factory of runs that trains nothing, and a prediction that is made at once.
CONFTEST = f"""
    import os, sys
    sys.path.insert(0, {str(TESTS)!r})
    import pytest

    class Factory:
        recipe = None

        def again(self, run):
            return run

        def code(self, run):
            return os.environ.get("CODE", "one")

    @pytest.fixture
    def ft_run():
        return Factory()
"""
ONE = """
    import os
    from builders import a_memory, a_run

    def test_it(ft_baseline):
        peak = int(os.environ.get("PEAK", 100_000))
        ft_baseline.check(a_run("lora", memory=a_memory("lora", peak_bytes=peak)))
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """With one test, which has a baseline, and which regresses where the variable PEAK says so."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=ONE)
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    return pytester


def file_of(project: pytest.Pytester) -> Path:
    return project.path / "__ftcheck__" / "cpu.json"


def entries(project: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file_of(project).read_text())["tests"]
    return found


def test_every_metric_s_regression_fails_its_test_and_stays_red(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = """
    @pytest.fixture(autouse=True)
    def predicted(monkeypatch):
        from baseline.regressions import PREDICTED
        monkeypatch.setattr("pytest_ftcheck.predict.predict_recipe", lambda *arguments, **options: PREDICTED)
    """
    pytester.makeconftest(CONFTEST + predicted)
    pytester.makepyfile(
        test_it="""
        import os, pytest
        from baseline.regressions import ON_A_GPU, REGRESSIONS
        CASES = {**REGRESSIONS, **{f"GPU: {name}": case for name, case in ON_A_GPU.items()}}

        @pytest.mark.parametrize("metric", CASES)
        def test_it(metric, ft_baseline):
            before, then, tolerance = CASES[metric]
            ft_baseline.check(then if os.environ.get("REGRESSED") else before, tolerance=tolerance)
        """
    )
    count = len(REGRESSIONS) + len(ON_A_GPU)
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=count)
    assert {path.name for path in (pytester.path / "__ftcheck__").iterdir()} == {"cpu.json", "nvidia-h200.json"}
    before = file_of(pytester).read_bytes()
    monkeypatch.setenv("REGRESSED", "1")
    for _ in range(2):
        result = pytester.runpytest_inprocess(*QUICK, "-rN", "-vv")
        result.assert_outcomes(failed=count)
        for metric in (*REGRESSIONS, *ON_A_GPU):
            assert re.search(rf"^ *{re.escape(metric)}: .*limit", result.stdout.str(), re.MULTILINE), metric
    monkeypatch.delenv("REGRESSED")
    pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=count)
    assert file_of(pytester).read_bytes() == before


def test_a_failure_says_what_first_and_how_to_accept_it_last(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAK", "140000")
    monkeypatch.setenv("CODE", "two")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    line = "lora/memory.peak_bytes: 100 kB -> 140 kB (+40 %, limit +1 %)"
    accept = "pytest 'test_it.py::test_it' --ftcheck-device=cpu --ftcheck-update --ftcheck-reason=\"...\""
    text = result.stdout.str()
    shown = text[text.index(line) :].partition("\n=")[0].splitlines()
    assert shown == [
        line,
        "  changed since: the recipe's code or data",
        "  baseline: __ftcheck__/cpu.json, accepted because: the first",
        f"  accept: {accept}",
    ]
    result.stdout.fnmatch_lines(["* ftcheck: baselines *", "cpu: 1 failed", f"  test_it.py::test_it: {line}"])
    result.stdout.fnmatch_lines([f"FAILED test_it.py::test_it - *{line[:25]}*"])
    assert "gating.py" not in text


def test_the_command_of_a_failure_accepts_that_test_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.mkdir("tests")
    test = """
        import os, pytest
        from builders import a_memory, a_run

        class TestThem:
            @pytest.mark.parametrize("kind", ["a b", "it's", "x[1]"])
            def test_it(self, kind, ft_baseline):
                peak = int(os.environ.get("PEAK", 100_000))
                ft_baseline.check(a_run("lora", memory=a_memory("lora", peak_bytes=peak)))
    """
    pytester.makepyfile(**{"tests/test_it": test})
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=3)
    monkeypatch.setenv("PEAK", "140000")
    for index, kind in enumerate(("a b", "it's", "x[1]")):
        result = pytester.runpytest_inprocess(*QUICK)
        result.assert_outcomes(failed=3 - index, passed=index)
        (command,) = {line for line in result.outlines if line.startswith("  accept: ") and f"[{kind}]" in line} or {
            line for line in result.outlines if line.startswith("  accept: ") and "it'" in line
        }
        program, *arguments = shlex.split(command.removeprefix("  accept: "))
        assert program == "pytest"
        pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments).assert_outcomes(passed=1)
    pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=3)


@pytest.mark.parametrize("how", ["renamed", "moved", "new"])
def test_a_test_without_a_baseline_is_counted_and_no_pass(project: pytest.Pytester, how: str) -> None:
    file = project.path / "test_it.py"
    if how == "renamed":
        file.write_text(file.read_text().replace("test_it", "test_renamed"))
    elif how == "moved":
        file.rename(project.path / "test_moved.py")
    else:
        file_of(project).unlink()
    result = project.runpytest_inprocess(*QUICK, "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*NO BASELINE*", "no baseline of * metrics: lora/settings: LoRA*", "  accept: *"])
    result.stdout.fnmatch_lines(["cpu: 1 no baseline"])


def test_a_baseline_of_another_environment_is_counted_apart_and_fails_where_a_gpu_is_required(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=ONE + "\n        ft_baseline.ended = True\n")
    from baseline.regressions import H200

    write(pytester.path / "__ftcheck__", {"test_it.py::test_it": an_entry(run(environment=H200))}, "nvidia-h200")
    result = pytester.runpytest_inprocess(*QUICK, "-v")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*NOT COMPARABLE*",
            "cpu: 1 not comparable",
            "  not comparable: recorded for nvidia-h200, and not for cpu: test_it.py::test_it",
            "*1 not comparable in *",
        ]
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--ftcheck-require-gpu")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not comparable: recorded for nvidia-h200, and not for cpu (--ftcheck-require-gpu)"])


def test_the_test_goes_on_after_what_cannot_be_compared(project: pytest.Pytester) -> None:
    file = project.path / "test_it.py"
    file.write_text(file.read_text().replace("test_it", "test_new") + "\n    raise ValueError('seen')\n")
    result = project.runpytest_inprocess(*QUICK)
    result.stdout.fnmatch_lines(["E *ValueError: seen"])


def test_a_test_that_checks_nothing_or_no_longer_measures_something_fails(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="def test_it(ft_baseline): pass")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ftcheck: the test ended without ft_baseline.check() or .record()"])

    project.makepyfile(test_it="def test_it(ft_baseline): ft_baseline.record('own', 3)")
    project.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    project.makepyfile(test_it="def test_it(ft_baseline): ft_baseline.record('other', 3)")
    result = project.runpytest_inprocess(*QUICK)
    result.stdout.fnmatch_lines(["own: 3; it is not measured any more"])


def test_own_metrics_have_a_direction_and_a_tolerance(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        test_it="""
        import os
        def test_it(ft_baseline):
            score, size = (float(os.environ.get(name, 1)) for name in ("SCORE", "SIZE"))
            ft_baseline.record("score", score, direction="higher")
            ft_baseline.record("size", size, unit="MiB", direction="lower", tolerance="512 KiB")
        """
    )
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    for variable, value, line in (
        ("SCORE", "0.98", "score: 1 -> 0.98 (-2 %, limit -1 %)"),
        ("SIZE", "1.51", "size: 1 MiB -> 1.51 MiB (+51 %, limit +0.5 MiB)"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            result = pytester.runpytest_inprocess(*QUICK)
            result.assert_outcomes(failed=1)
            result.stdout.fnmatch_lines([line.replace("[", "[[]")])
    monkeypatch.setenv("SIZE", "1.49")
    monkeypatch.setenv("SCORE", "0.991")
    pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("check({})", "ftcheck: ft_baseline.check(dict); allowed: a Run, a Pair or a Prediction"),
        ("record('x', 'much')", "ftcheck: record('x', ...) was given what is no number; allowed: numbers"),
        ("record('x', 1, tolerance='2 parsec')", "ftcheck: tolerance of x is '2 parsec', and it is in no unit; *"),
        ("record('x', 1, direction='up')", "ftcheck: record('x', direction='up'); allowed: 'lower', 'higher', 'same'"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_line(project: pytest.Pytester, call: str, message: str) -> None:
    project.makepyfile(test_it=f"def test_it(ft_baseline):\n    ft_baseline.record('x', 1)\n    ft_baseline.{call}")
    project.runpytest_inprocess(*UPDATE)
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message.replace("[", "[[]")])
    assert "Traceback" not in result.stdout.str()


def test_options_give_tolerances_and_make_a_stale_baseline_an_error(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAK", "104000")
    project.runpytest_inprocess(*QUICK).assert_outcomes(failed=1)
    project.runpytest_inprocess(*QUICK, "--ftcheck-tolerance=memory.peak_bytes: 5%").assert_outcomes(passed=1)
    monkeypatch.setenv("PEAK", "50000")
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "cpu: 1 passed",
            "  stale baseline: test_it.py::test_it: lora/memory.peak_bytes: 100 kB -> 50 kB (-50 %, limit +1 %)",
            "    accept: pytest 'test_it.py::test_it' *",
        ]
    )
    project.runpytest_inprocess(*QUICK, "--ftcheck-stale=error").assert_outcomes(failed=1)


def test_skipped_and_expected_failures_are_counted(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project.path / "test_it.py"
    source = file.read_text()
    for marker, line in (("skip(reason='no')", "1 skipped"), ("xfail(reason='no')", "cpu: 1 expected failure")):
        monkeypatch.setenv("PEAK", "140000")
        file.write_text(source.replace("def test_it", f"import pytest\n@pytest.mark.{marker}\ndef test_it"))
        result = project.runpytest_inprocess(*QUICK)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["* ftcheck: baselines *", line])


def test_junit_files_have_the_verdict_and_the_numbers(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUICK, "--junitxml=report.xml")
    tree = ElementTree.parse(project.path / "report.xml")
    found = {p.attrib["name"]: p.attrib["value"] for p in tree.iter("property")}
    assert found["ftcheck.baseline"] == "passed"
    assert found["ftcheck.environment"] == "cpu"
    assert found["ftcheck.lora/memory.peak_bytes"] == "100000.0"


def test_the_summary_of_a_ci_job_gets_a_table(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = project.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("PEAK", "140000")
    project.runpytest_inprocess(*QUICK)
    text = summary.read_text()
    assert text.startswith("before\n### ftcheck: baselines\n\n- cpu: 1 failed\n\n| test | metric |")
    assert "| test_it.py::test_it | lora/memory.peak_bytes | failed | 100 kB | 140 kB | +40 % | +1 % |\n" in text
    assert "```sh\npytest 'test_it.py::test_it' " in text


# Accepting.


def test_an_update_says_what_changed_old_and_new_and_why(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit_all(project.path)
    project.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    monkeypatch.setenv("PEAK", "140000")
    monkeypatch.setenv("CODE", "two")
    result = project.runpytest_inprocess(*QUICK, "--ftcheck-update", "--ftcheck-reason=larger  batches")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "cpu: 1 accepted",
            "ftcheck: accepted: test_it.py::test_it in *cpu.json: the environment is the same, the code changed",
            "ftcheck: accepted:   lora/memory.peak_bytes: 100 kB -> 140 kB",
        ]
    )
    accepted = entries(project)["test_it.py::test_it"]["accepted"]
    assert accepted == {"because": "larger batches", "commit": first[:12]}
    project.runpytest_inprocess(*QUICK).assert_outcomes(passed=1)


def test_an_update_that_changes_nothing_leaves_the_file(project: pytest.Pytester) -> None:
    before = file_of(project).read_bytes()
    result = project.runpytest_inprocess(*QUICK, "--ftcheck-update", "--ftcheck-reason=again")
    result.assert_outcomes(passed=1)
    assert file_of(project).read_bytes() == before
    assert "ftcheck: accepted:" not in result.stdout.str()


def test_new_only_adds_and_never_replaces(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    before = entries(project)
    monkeypatch.setenv("PEAK", "140000")
    project.makepyfile(test_new=ONE)
    new_only = (*QUICK, "--ftcheck-update-new-only", "--ftcheck-reason=one more")
    project.runpytest_inprocess(*new_only).assert_outcomes(passed=1, failed=1)
    after = entries(project)
    assert after["test_it.py::test_it"] == before["test_it.py::test_it"]
    assert after["test_new.py::test_it"]["accepted"]["because"] == "one more"


def test_what_a_failing_test_saw_is_not_accepted(project: pytest.Pytester) -> None:
    before = file_of(project).read_bytes()
    file = project.path / "test_it.py"
    file.write_text(file.read_text() + "\n    assert peak < 1\n")
    project.runpytest_inprocess(*QUICK, "--ftcheck-update", "--ftcheck-reason=why").assert_outcomes(failed=1)
    assert file_of(project).read_bytes() == before


def test_what_does_not_repeat_itself_is_not_accepted(project: pytest.Pytester) -> None:
    again = "from builders import a_memory, a_run; return a_run('lora', memory=a_memory('lora', peak_bytes=9))"
    project.makeconftest(CONFTEST.replace("return run\n", f"{again}\n"))
    result = project.runpytest_inprocess(*UPDATE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["ftcheck: not accepted: the training, done again, is not the same: lora/memory.peak_bytes: 100 kB -> 9 B*"]
    )


def test_what_an_interrupted_session_saw_is_not_accepted(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(project).read_bytes()
    project.makepyfile(test_stops="import pytest\ndef test_it(): pytest.exit('enough')")
    monkeypatch.setenv("PEAK", "140000")
    result = project.runpytest_inprocess(*UPDATE)
    result.stdout.fnmatch_lines(["ftcheck: nothing was accepted: the session was interrupted"])
    assert file_of(project).read_bytes() == before


def test_calibration_keeps_samples_and_a_tolerance_that_is_held_to_later(pytester: pytest.Pytester) -> None:
    noisy = """
        def again(self, run):
            self.count = getattr(self, "count", 0) + 1
            from builders import a_memory, a_run
            return a_run("lora", memory=a_memory("lora", peak_bytes=100_000 + 1000 * (self.count % 3)))
    """
    pytester.makeconftest(CONFTEST.replace("        def again(self, run):\n            return run\n", noisy))
    pytester.makepyfile(test_it=ONE)
    pytester.runpytest_inprocess(*QUICK, "--ftcheck-calibrate=6", "--ftcheck-reason=noisy").assert_outcomes(passed=1)
    peak = entries(pytester)["test_it.py::test_it"]["metrics"]["lora/memory.peak_bytes"]
    assert len(peak["samples"]) == 6
    assert 1 < float(peak["limit"].rstrip("%")) < 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEAK", "103000")
        pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=1)
        patch.setenv("PEAK", "130000")
        pytester.runpytest_inprocess(*QUICK).assert_outcomes(failed=1)


def test_a_session_without_anything_to_accept_leaves_no_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    assert not (pytester.path / "__ftcheck__").exists()


def test_baselines_may_be_in_one_folder_of_the_repository(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    for folder in ("a", "b"):
        pytester.mkdir(folder)
        (pytester.path / folder / "test_it.py").write_text(ONE.replace("\n    ", "\n"))
    chosen = ("--ftcheck-baseline-dir=some/baselines", "--import-mode=importlib")
    pytester.runpytest_inprocess(*UPDATE, *chosen).assert_outcomes(passed=2)
    assert set(json.loads((pytester.path / "some" / "baselines" / "cpu.json").read_text())["tests"]) == {
        "a/test_it.py::test_it",
        "b/test_it.py::test_it",
    }
    pytester.runpytest_inprocess(*QUICK, *chosen).assert_outcomes(passed=2)
    pytester.runpytest_inprocess(*QUICK, "--import-mode=importlib").assert_outcomes(failed=2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("<<<<<<< ours\n", r"ftcheck: *cpu.json:1: an unresolved merge conflict (<<<<<<< ours)"),
        ("{", r"ftcheck: *cpu.json:1: not JSON: *"),
    ],
)
def test_a_damaged_file_fails_the_test_with_its_line(project: pytest.Pytester, damage: str, message: str) -> None:
    file_of(project).write_text(damage)
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
    assert file_of(project).read_text() == damage


def test_a_file_that_cannot_be_written_fails_the_session_with_a_line(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(project).read_bytes()

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("PEAK", "140000")
    monkeypatch.setattr("pytest_ftcheck.committed.os.replace", refuse)
    result = project.runpytest_inprocess(*UPDATE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["ftcheck: nothing was accepted: *cpu.json cannot be written: No space left on device; it is as it was"]
    )
    assert file_of(project).read_bytes() == before


def pytest_process(project: pytest.Pytester, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *UPDATE, *arguments]
    return subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_session_that_is_killed_leaves_the_old_file(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(project).read_bytes()
    project.makepyfile(test_kills="import os\ndef test_it(): os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PEAK", "140000")
    session = pytest_process(project)
    session.communicate()
    assert session.returncode == -signal.SIGKILL
    assert file_of(project).read_bytes() == before
    assert [path.name for path in file_of(project).parent.iterdir()] == ["cpu.json"]


MANY = """
    import pytest
    from builders import a_run

    @pytest.mark.parametrize("number", range(200))
    @pytest.mark.xdist_group("gpu0")
    def test_it(number, ft_baseline):
        ft_baseline.check(a_run("lora", seed=number))
"""


@pytest.mark.usefixtures("with_workers")
def test_four_workers_that_accept_two_hundred_tests_lose_none(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=MANY.replace('@pytest.mark.xdist_group("gpu0")', ""))
    session = pytest_process(pytester, "-n", "4")
    output, _ = session.communicate()
    assert "200 passed" in output
    found = entries(pytester)
    assert set(found) == {f"test_it.py::test_it[{number}]" for number in range(200)}
    assert all(
        f"seed {number}" in found[f"test_it.py::test_it[{number}]"]["metrics"]["lora/settings"]["text"]
        for number in range(200)
    )


def test_two_sessions_that_accept_at_once_lose_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    for name in ("test_a", "test_b"):
        pytester.makepyfile(**{name: MANY.replace("range(200)", "range(20)")})
    sessions = [pytest_process(pytester, f"{name}.py") for name in ("test_a", "test_b")]
    for session in sessions:
        assert "20 passed" in session.communicate()[0]
    assert len(entries(pytester)) == 40


@pytest.mark.usefixtures("with_workers")
def test_a_group_of_workers_does_not_change_what_a_test_is_called(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=MANY.replace("range(200)", "range(2)"))
    assert "2 passed" in pytest_process(pytester, "-n", "2", "--dist", "loadgroup").communicate()[0]
    assert set(entries(pytester)) == {"test_it.py::test_it[0]", "test_it.py::test_it[1]"}


def test_what_trains_for_real_is_accepted_and_held_to(pytester: pytest.Pytester) -> None:
    conftest = f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        import pytest
        from recipes import tiny_recipe

        @pytest.fixture(scope="session")
        def ft_recipe():
            return tiny_recipe()
    """
    pytester.makeconftest(conftest)
    pytester.makepyfile(test_it="def test_it(ft_lora, ft_baseline): ft_baseline.check(ft_lora)")
    pytester.runpytest_inprocess(*UPDATE).assert_outcomes(passed=1)
    pytester.runpytest_inprocess(*QUICK, "--ftcheck-no-cache").assert_outcomes(passed=1)
    pytester.makeconftest(conftest.replace("tiny_recipe()", "tiny_recipe(batch_size=8)"))
    result = pytester.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["lora/settings: *6 steps of 4 rows * -> *6 steps of 8 rows *", "  lora/batches: *"])
    result.stdout.fnmatch_lines(["  changed since: the recipe's code or data"])


def test_a_worktree_stays_as_git_has_it_but_for_the_baselines(project: pytest.Pytester) -> None:
    commit_all(project.path)
    project.makepyfile(test_new=ONE)
    commit_all(project.path)
    project.runpytest_inprocess(*UPDATE).assert_outcomes(passed=2)
    changed = git(project.path, "status", "--porcelain").split("\n")
    assert [line for line in changed if line and "__pycache__" not in line] == [" M __ftcheck__/cpu.json"]
