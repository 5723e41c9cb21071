"""Sessions that write a report."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from pytest_ftcheck import Run
from pytest_ftcheck.errors import ReportError
from pytest_ftcheck.report.document.findings import SCHEMA
from pytest_ftcheck.report.document.writing import publish

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
        *("runs", "checks", "baselines", "against"),
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
