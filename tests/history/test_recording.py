"""``--ftcheck-history`` in sessions: what is added, when, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from history.measured import CONFTEST, H200, a_comparison, a_judgement

from pytest_ftcheck.history.place import Place
from pytest_ftcheck.history.recording import record

QUICK = ("-p", "no:cacheprovider", "--ftcheck-device=cpu", "--ftcheck-history=history")
TESTS = """
    import os
    import pytest

    def test_fails_without_a_baseline(ft_baseline):
        ft_baseline.record("accuracy", [0.5, 0.25, 0.75], direction="higher")

    @pytest.mark.parametrize("number", range(20))
    def test_many(number, ft_baseline):
        ft_baseline.record("number", number)

    def test_nothing():
        pass
"""
ALONE = [("-p", "no:xdist", "-p", "no:benchmark"), ("-p", "no:benchmark"), ("-n", "4"), ()]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    return pytester


def files(project: pytest.Pytester) -> list[dict[str, Any]]:
    place = Place(str(project.path / "history"))
    return [json.loads(data) for _, data in place.texts(place.names())]  # type: ignore[arg-type]


@pytest.mark.parametrize("plugins", ALONE, ids=" ".join)
def test_one_file_has_every_metric_whatever_plugins_there_are(
    plugins: tuple[str, ...], project: pytest.Pytester
) -> None:
    result = project.runpytest_inprocess(*QUICK, *plugins)
    (saved,) = files(project)
    assert len(saved["benchmarks"]) == 21
    by_name = {one["fullname"]: one for one in saved["benchmarks"]}
    assert by_name["test_it.py::test_many[7]#number"]["stats"]["data"] == [7.0]
    accuracy = by_name["test_it.py::test_fails_without_a_baseline#accuracy"]
    assert accuracy["stats"]["data"] == [2.0, 4.0, 1 / 0.75]
    assert accuracy["extra_info"]["environment"] == "cpu"
    result.stdout.fnmatch_lines(["ftcheck: history: 21 metrics in history/cpu/*/0001_*.json"])


def test_the_second_session_adds_a_file(project: pytest.Pytester) -> None:
    for _ in range(2):
        project.runpytest_inprocess(*QUICK, "-p", "no:xdist")
    assert len(files(project)) == 2


@pytest.mark.parametrize("arguments", [("--collect-only",), ("-k", "nothing"), ("--ftcheck-history=off",)])
def test_nothing_is_left_where_nothing_is_measured(arguments: tuple[str, ...], project: pytest.Pytester) -> None:
    project.runpytest_inprocess(*QUICK, *arguments)
    assert not (project.path / "history").exists()


def test_a_history_in_the_ini_file_is_kept(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nftcheck_history = kept")
    project.runpytest_inprocess(*QUICK[:-1])
    assert len(Place(str(project.path / "kept")).names()) == 1


def test_a_place_that_cannot_be_opened_ends_the_session_before_it_begins(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(*QUICK, "--ftcheck-history=nosuch://bucket")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ftcheck-history: history 'nosuch://bucket' cannot be opened: ValueError: *"])


def test_a_history_that_cannot_be_written_fails_the_session(project: pytest.Pytester) -> None:
    (project.path / "history").write_text("a file")
    project.makepyfile(test_it="def test_it(ft_baseline): ft_baseline.record('number', 1)")
    accepted = project.runpytest_inprocess(*QUICK[:-1], "--ftcheck-update", "--ftcheck-reason=first")
    assert accepted.ret == pytest.ExitCode.OK
    result = project.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ftcheck: --ftcheck-history: history 'history' cannot be written: *"])


def test_each_environment_has_a_file_of_its_own(tmp_path: Path) -> None:
    here, there = a_judgement(a_comparison()), a_judgement(a_comparison(), test="test_it.py::other", fingerprint=H200)
    told = record([here.to_json(), there.to_json(), here.to_json()], str(tmp_path), tmp_path)
    names = Place(str(tmp_path)).names()
    assert [name.split("/")[0] for name in names] == ["cpu", "nvidia-h200"]
    assert told == [f"history: 1 metrics in {tmp_path}/{name}" for name in names]


def test_what_has_measured_nothing_adds_nothing(tmp_path: Path) -> None:
    assert record([a_judgement(fingerprint=None).to_json()], str(tmp_path), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
