"""``python -m pytest_ftcheck.history``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from history.measured import a_measurement, add_run

from pytest_ftcheck.history.__main__ import main


@pytest.fixture
def history(tmp_path: Path) -> Path:
    for index in range(10):
        add_run(tmp_path / "kept", index, a_measurement(1000.0 if index < 6 else 2000.0))
    return tmp_path / "kept"


def test_trends_are_printed(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(history)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cpu: 1 metrics, 1 got worse, 0 changed otherwise"
    assert lines[-1].startswith("    worse: 1 kB -> 2 kB (+100 %) at ")


def test_a_page_is_written_instead(history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "page.html"
    assert main([str(history), "--html", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: 1 metrics\n"
    assert "worse: 1 kB -&gt; 2 kB (+100 %)" in file.read_text(encoding="utf-8")


def test_it_is_a_command_that_looks_in_the_usual_folder(history: Path, tmp_path: Path) -> None:
    history.rename(tmp_path / ".benchmarks")
    command = [sys.executable, "-m", "pytest_ftcheck.history", "--metric", "*peak*"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.startswith("cpu: 1 metrics")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "history 'nowhere' has no run that was asked for"),
        (["nosuch://bucket"], "history 'nosuch://bucket' cannot be opened: ValueError: Protocol not known: nosuch"),
        (["{history}", "--test", "*other*"], "has no run that was asked for"),
        (["{history}", "--branch", "other"], "has no run that was asked for"),
        (["{history}", "--html", "{history}"], "cannot be written: "),
    ],
)
def test_what_cannot_be_shown_is_a_line_and_ends_with_2(
    arguments: list[str], text: str, history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(history.parent)
    assert main([argument.format(history=history) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert text in line


@pytest.mark.parametrize("bad", ["0", "-1", "many"])
def test_a_number_of_runs_that_is_none_is_refused(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--last={bad}"])
    assert f"argument --last: '{bad}'; allowed: a whole number of at least 1" in capsys.readouterr().err


def test_a_damaged_file_is_told_beside_the_trends(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(iter(sorted(history.rglob("*.json")))).write_text("{")
    assert main([str(history)]) == 0
    assert "was not read: JSONDecodeError" in capsys.readouterr().err
