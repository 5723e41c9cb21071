"""A metric over commits, as it is read from a history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from history.measured import H200, a_measurement, add_run, day

from pytest_ftcheck.history.place import Place
from pytest_ftcheck.history.series import Chosen, read

STEP = {"metric": "lora/time.step_s", "unit": "s"}


def values(folder: Path, **chosen: object) -> dict[str, tuple[float, ...]]:
    found, problems = read(Place(str(folder)), Chosen(**chosen))  # type: ignore[arg-type]
    assert problems == []
    return {series.metric: series.values for series in found}


def test_points_are_in_the_order_of_commits_and_know_theirs(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        add_run(tmp_path, index, a_measurement(1000.0 + index), dirty=index == 1)
    ((series,), problems) = read(Place(str(tmp_path)), Chosen())
    assert problems == []
    assert series.values == (1000.0, 1001.0, 1002.0)
    assert [point.commit for point in series.points] == ["000000000000"] * 3
    assert [point.dirty for point in series.points] == [False, True, False]
    assert [point.committed for point in series.points] == [day(0), day(1), day(2)]
    assert (series.test, series.metric, series.unit) == ("test_it.py::test_it[lora]", "lora/memory.peak_bytes", "bytes")


def test_the_median_of_repetitions_counts_and_what_was_inverted_is_turned_back(tmp_path: Path) -> None:
    add_run(tmp_path, 0, a_measurement(0.5, 0.1, 0.9, direction="higher", metric="accuracy", unit=""))
    assert values(tmp_path) == {"accuracy": (pytest.approx(0.5),)}


def test_each_environment_is_a_series_of_its_own(tmp_path: Path) -> None:
    add_run(tmp_path, 0, a_measurement())
    add_run(tmp_path, 0, a_measurement(fingerprint=H200))
    found, _ = read(Place(str(tmp_path)), Chosen())
    assert [series.environment for series in found] == ["cpu", "nvidia-h200"]


def test_tests_metrics_branches_and_the_last_runs_are_chosen(tmp_path: Path) -> None:
    for index in range(5):
        branch = "main" if index % 2 else "other"
        add_run(tmp_path, index, a_measurement(float(index + 1)), a_measurement(0.5, **STEP), branch=branch)
    assert values(tmp_path, metric="*peak*") == {"lora/memory.peak_bytes": (1.0, 2.0, 3.0, 4.0, 5.0)}
    assert values(tmp_path, metric="*peak*", last=2) == {"lora/memory.peak_bytes": (4.0, 5.0)}
    assert values(tmp_path, metric="*peak*", branch="main") == {"lora/memory.peak_bytes": (2.0, 4.0)}
    assert values(tmp_path, test="*test_other*") == {}
    assert set(values(tmp_path, test="*test_it*")) == {"lora/memory.peak_bytes", "lora/time.step_s"}


def test_of_many_runs_only_the_last_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand files are no more work than a thousand."""
    folder = tmp_path / "cpu" / "here"
    folder.mkdir(parents=True)
    for index in range(1, 10_001):
        (folder / f"{index:04}_run.json").touch()
    opened: list[str] = []
    monkeypatch.setattr(Place, "texts", lambda self, names: opened.extend(names) or iter(()))
    read(Place(str(tmp_path)), Chosen(last=1000))
    assert (len(opened), opened[0], opened[-1]) == (1000, "cpu/here/9001_run.json", "cpu/here/10000_run.json")


def test_what_pytest_benchmark_has_timed_itself_is_read_too(tmp_path: Path) -> None:
    name = add_run(tmp_path, 0, a_measurement(0.25))
    saved = json.loads((tmp_path / name).read_text())
    saved["benchmarks"][0] |= {"extra_info": {}, "fullname": "test_it.py::test_timed"}
    (tmp_path / name).write_text(json.dumps(saved))
    ((series,), _) = read(Place(str(tmp_path)), Chosen())
    assert (series.test, series.metric, series.unit, series.direction) == (
        "test_it.py::test_timed",
        "time",
        "s",
        "lower",
    )
    assert series.environment.startswith("cpu/")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"commit_info": {}, "datetime": "x", "benchmarks": []}'])
def test_a_damaged_file_is_named_and_the_others_are_read(text: str, tmp_path: Path) -> None:
    names = [add_run(tmp_path, index, a_measurement(float(index + 1))) for index in range(3)]
    (tmp_path / names[1]).write_text(text)
    ((series,), (problem,)) = read(Place(str(tmp_path)), Chosen())
    assert series.values == (1.0, 3.0)
    assert problem.startswith(f"{names[1]} was not read: ")
    assert "\n" not in problem


def test_a_number_that_is_none_is_a_problem_and_no_point(tmp_path: Path) -> None:
    name = add_run(tmp_path, 0, a_measurement())
    saved = json.loads((tmp_path / name).read_text())
    saved["benchmarks"][0]["stats"]["median"] = float("nan")
    (tmp_path / name).write_text(json.dumps(saved))
    found, (problem,) = read(Place(str(tmp_path)), Chosen())
    assert found == []
    assert "is nan" in problem
