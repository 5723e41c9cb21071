"""Sessions that write a report."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from baseline.regressions import PREDICTED
from builders import a_pair
from repositories import commit_all

from pytest_ftcheck import Run
from pytest_ftcheck.errors import ReportError
from pytest_ftcheck.predict.forecast import Forecast
from pytest_ftcheck.report.document.findings import SCHEMA, Findings
from pytest_ftcheck.report.document.writing import publish, written

# Runs that no training made reach the terminal as those of a training do.
CONFTEST = f"""
    import sys
    sys.path.append({str(Path(__file__).parents[2])!r})
    import pytest
    from builders import a_pair
    from pytest_ftcheck.session import SESSION

    @pytest.fixture
    def ft_pair(request):
        pair = a_pair({{1: (0.0,) * 3, 10: (0.5, 0.51, 0.49)}})
        runs = [run.to_json() for run in (*pair.fulls, *pair.loras)]
        request.config.stash[SESSION].fresh["runs"] += runs
        return pair
"""
TEST = """
    import pytest

    @pytest.mark.parametrize("name", ["<script>alert(1)</script>"])
    def test_it(ft_pair, name): pass

    def test_fails(ft_pair): assert False
"""
QUICK = ("-p", "no:cacheprovider", "--ftcheck-device=cpu")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST)
    return pytester


def test_each_kind_is_written_where_it_is_asked_for_and_the_session_says_so(project: pytest.Pytester) -> None:
    kinds = ("--ftcheck-report=html", "--ftcheck-report=md:out/r.md", "--ftcheck-report=json")
    result = project.runpytest_inprocess(*QUICK, *kinds)
    result.stdout.fnmatch_lines(
        [
            f"ftcheck: report: {project.path}/{name}"
            for name in ("ftcheck-report.html", "out/r.md", "ftcheck-report.json")
        ]
    )
    page = (project.path / "ftcheck-report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "2 executed: 1 passed, 1 failed" in page
    assert "# ftcheck: full fine-tuning and LoRA" in (project.path / "out" / "r.md").read_text()
    assert sorted(p.name for p in project.path.glob("*ftcheck*")) == ["ftcheck-report.html", "ftcheck-report.json"]


def test_the_json_holds_the_runs_themselves(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUICK, "--ftcheck-report=json:r.json")
    data = json.loads((project.path / "r.json").read_text())
    assert data["schema"] == SCHEMA
    assert set(data) == {
        *("schema", "made", "pytest_ftcheck", "summary", "failures"),
        *("runs", "predictions", "checks", "baselines", "history", "against", "sweeps"),
    }
    runs = [Run.from_json(json.dumps(one)) for one in data["runs"]]
    assert [(run.method, run.seed) for run in runs] == [(m, seed) for m in ("full", "lora") for seed in range(3)]


def test_workers_have_one_report(project: pytest.Pytester, bare_workers: object) -> None:
    project.runpytest_inprocess(*QUICK, "-n", "2", "--ftcheck-report=json:r.json")
    assert len(json.loads((project.path / "r.json").read_text())["runs"]) == 6


def test_why_the_session_failed_where_no_test_says_so_is_in_it(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUICK, "-k", "nothing", "--ftcheck-min-checks=3", "--ftcheck-report=json:r.json")
    data = json.loads((project.path / "r.json").read_text())
    assert data["runs"] == []
    assert any("--ftcheck-min-checks" in line for line in data["failures"])


def test_a_report_that_cannot_be_written_fails_the_session_and_says_why(project: pytest.Pytester) -> None:
    (project.path / "file").write_text("")
    result = project.runpytest_inprocess(*QUICK, "-k", "test_it", "--ftcheck-report=md:file/r.md")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"ftcheck: --ftcheck-report: {project.path}/file/r.md cannot be written: *"])


def test_a_page_that_cannot_be_made_ends_the_session_before_it_begins(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = project.runpytest_inprocess(*QUICK, "--ftcheck-report=html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ftcheck-report=html: an HTML report needs plotly.offline*"])


def test_a_report_of_twenty_runs_with_predictions_takes_less_than_three_seconds() -> None:
    runs, forecasts = [], []
    for number in range(5):
        pair = a_pair(dict.fromkeys(range(1, 501, 10), (0.1, 0.12)), recipe=f"recipe {number}", train=(1.0,) * 500)
        for run in (*pair.fulls, *pair.loras):
            runs.append(run.to_json())
            same = (run.recipe, run.method, run.declaration, run.dtype, run.batch_size, run.accumulation)
            forecasts.append(Forecast(*same, "", run.memory).to_json())
    start = time.process_time()
    text = written(Findings({"runs": runs, "forecasts": forecasts}, "", (), "today", "0.1.0"), "html")
    assert time.process_time() - start < 3
    assert len(text.encode()) < 6e6
    assert text.count("measured is the same to the byte") >= 10


def test_on_github_markdown_goes_to_the_summary_of_the_job_too(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = project.path / "summary.md"
    summary.write_text("what others wrote\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    project.runpytest_inprocess(*QUICK, "--ftcheck-report=md")
    assert summary.read_text() == "what others wrote\n" + (project.path / "ftcheck-report.md").read_text()
    assert "```mermaid" in summary.read_text()


def test_a_summary_that_is_too_large_is_a_line(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ftcheck.report import step_summary

    monkeypatch.setattr(step_summary, "MOST_BYTES", 100)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    project.runpytest_inprocess(*QUICK, "--ftcheck-report=md")
    assert (project.path / "summary.md").read_text() == (
        "ftcheck: too much for this page; see the file that the session has written.\n"
    )


HELD = """
    import os

    def test_it(ft_baseline):
        ft_baseline.record("tokens", int(os.environ["TOKENS"]), direction="higher")
"""


def test_what_was_accepted_before_is_in_it_with_its_commits(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile(HELD)
    accepting = ("--ftcheck-update", "--ftcheck-reason")
    commits = [commit_all(project.path)]
    for tokens, because in (("100", "the first"), ("120", "longer rows")):
        monkeypatch.setenv("TOKENS", tokens)
        assert project.runpytest_inprocess(*QUICK, *accepting, because, "--ftcheck-report=off").ret == 0
        commits.append(commit_all(project.path))
    monkeypatch.setenv("TOKENS", "90")
    reports = ("--ftcheck-report=md:r.md", "--ftcheck-report=json:r.json")
    project.runpytest_inprocess(*QUICK, *reports).assert_outcomes(failed=1)
    (past,) = json.loads((project.path / "r.json").read_text())["history"]
    assert [(one["value"], one["because"], one["commit"]) for one in past["accepted"]] == [
        (100.0, "the first", commits[1][:12]),
        (120.0, "longer rows", commits[2][:12]),
    ]
    assert "▃█▁ 90 to 120, 2 accepted" in (project.path / "r.md").read_text()


def test_a_prediction_that_is_held_to_a_baseline_is_in_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from baseline.regressions import PREDICTED

        def test_it(ft_baseline): ft_baseline.check(PREDICTED)
        """
    )
    project.runpytest_inprocess(*QUICK, "--ftcheck-report=json:r.json")
    (found,) = json.loads((project.path / "r.json").read_text())["predictions"]
    assert found["memory"]["peak_bytes"] == PREDICTED.memory.peak_bytes


def test_without_the_option_nothing_is_written(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUICK)
    assert not list(project.path.glob("*report*"))


def test_a_report_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.md"
    publish(path, "first")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(ReportError, match="cannot be written: No space left on device"):
        publish(path, "second")
    assert [p.name for p in tmp_path.iterdir()] == ["r.md"]
    assert path.read_text() == "first"


def test_the_example_of_the_documentation_reads_the_runs(
    project: pytest.Pytester, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "report.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    project.runpytest_inprocess(*QUICK, "--ftcheck-report=json")
    capsys.readouterr()
    monkeypatch.chdir(project.path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("too early to tell: run to step ")
