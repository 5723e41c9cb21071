"""Measurements join pytest-benchmark's session. Its releases 5.1.0, 5.2.3 and 5.3.1: ``tox -e benchmark-releases``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from history.measured import CONFTEST

from pytest_ftcheck import environment
from pytest_ftcheck.history import benchmark_session
from pytest_ftcheck.history.place import Place

# Its releases before 5.3 warn in every session with workers.
QUIET = ("-p", "no:cacheprovider", "-W", "ignore:Benchmarks are automatically disabled")
QUICK = (*QUIET, "--ftcheck-device=cpu")
TESTS = """
    import os
    import pytest

    @pytest.mark.parametrize("method", ["full", "lora"])
    def test_it(method, ft_baseline):
        ft_baseline.record("peak", int(os.environ.get("PEAK", 1000)), unit="bytes", direction="lower")

"""
TIMED = """
    def test_timed(benchmark):
        benchmark(lambda: None)
"""
plugins = pytest.mark.parametrize("workers", [("-n", "2"), ("-p", "no:xdist")], ids=" ".join)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # In a worker of xdist, pytest-benchmark times nothing.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    pytester.runpytest_inprocess(*QUICK, "-p", "no:benchmark", "--ftcheck-update", "--ftcheck-reason=first")
    pytester.makepyfile(test_timed=TIMED)
    return pytester


def saved(folder: Path) -> list[dict[str, Any]]:
    place = Place(str(folder / ".benchmarks"))
    return [json.loads(data) for _, data in place.texts(place.names())]  # type: ignore[arg-type]


@plugins
def test_they_are_saved_compared_and_in_its_tables(
    workers: tuple[str, ...], project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it times itself it times without workers only.
    files = ["test_it.py"] if "-n" in workers else ["test_it.py", "test_timed.py"]
    result = project.runpytest_inprocess(*QUICK, *workers, "--benchmark-autosave", *files)
    assert result.ret == pytest.ExitCode.OK
    (first,) = saved(project.path)
    names = {one["fullname"] for one in first["benchmarks"]}
    timed = set() if "-n" in workers else {"test_timed.py::test_timed"}
    assert names == {f"test_it.py::test_it[{method}]#peak" for method in ("full", "lora")} | timed
    monkeypatch.setenv("PEAK", "2000")
    again = project.runpytest_inprocess(
        *QUICK, *workers, "--benchmark-compare=0001", "--benchmark-compare-fail=median:10%", "test_it.py"
    )
    again.stdout.fnmatch_lines(["*benchmark 'peak (bytes)': 4 tests*", "*test_it*full*peak (NOW)*"])
    assert "'median' has failed PercentageRegressionCheck" in again.stdout.str() + again.stderr.str()


@plugins
def test_without_its_options_nothing_is_added(workers: tuple[str, ...], project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(*QUICK, *workers)
    assert "peak" not in result.stdout.str()
    assert saved(project.path) == []


def test_its_own_command_compares_them(project: pytest.Pytester) -> None:
    for name in ("one", "two"):
        project.runpytest_inprocess(*QUICK, f"--benchmark-save={name}")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "--group-by", "fullname"]
    told = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=True)
    assert told.stdout.count("test_it[lora]#peak") == 3  # the group, and a line of each


def test_on_a_gpu_it_is_named_and_has_a_folder_of_its_own(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _a_gpu(tmp_path / "proc", monkeypatch)
    first = project.runpytest_inprocess(*QUIET, "--benchmark-autosave", "test_it.py")
    # Of two machines it would warn, which is an error here.
    second = project.runpytest_inprocess(*QUIET, "--benchmark-compare=0001", "test_it.py")
    assert first.ret == second.ret == pytest.ExitCode.OK
    (folder,) = (project.path / ".benchmarks").iterdir()
    assert folder.name == "nvidia-h200"
    (data,) = saved(project.path)
    assert data["machine_info"]["gpu"] == {"name": "NVIDIA H200", "driver": "570.10"}


def test_a_storage_that_was_chosen_stays(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _a_gpu(tmp_path / "proc", monkeypatch)
    project.runpytest_inprocess(*QUIET, "--benchmark-autosave", "--benchmark-storage=file://mine")
    assert not (project.path / ".benchmarks").exists()
    assert len(list((project.path / "mine").rglob("*.json"))) == 1


def _a_gpu(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (proc / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    (proc / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.10  Mon\n")
    monkeypatch.setattr(environment, "GPU_INFO", proc / "gpus")
    monkeypatch.setattr(environment, "DRIVER_INFO", proc / "version")


def test_a_release_that_keeps_its_benchmarks_otherwise_still_saves_them_and_says_so(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: Any, **options: Any) -> Any:
        raise TypeError("other arguments")

    monkeypatch.setattr(benchmark_session, "_benchmark", other)
    result = project.runpytest_inprocess(*QUICK, "-p", "no:xdist", "--benchmark-autosave")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["ftcheck: measurements are in its files, and in none of its tables: *other arguments*"]
    )
    (data,) = saved(project.path)
    assert "test_it.py::test_it[lora]#peak" in {one["fullname"] for one in data["benchmarks"]}


def test_without_it_nothing_is_said(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(*QUICK, "-p", "no:benchmark", "test_it.py")
    result.assert_outcomes(passed=2)
    assert "measurements" not in result.stdout.str()
