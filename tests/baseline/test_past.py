"""How it went with a metric: what was accepted before, and what earlier sessions have seen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from baseline.entries import HERE, an_entry, write
from repositories import commit_all

from pytest_ftcheck.baseline import past
from pytest_ftcheck.baseline.comparison import Comparison
from pytest_ftcheck.baseline.entry import Acceptation
from pytest_ftcheck.baseline.judgement import Judgement
from pytest_ftcheck.baseline.metric import Metric
from pytest_ftcheck.baseline.past import Accepted, Past, Pasts, look_back
from pytest_ftcheck.baseline.store import FOLDER, place_of
from pytest_ftcheck.history.recording import record

TEST = "tests/test_it.py::TestClass::test_it[a::b]"
NAMES = TEST.partition("::")[2]


def accept(folder: Path, test: str, because: str, **values: Any) -> None:
    metrics = {name: Metric(name, value, "tokens") for name, value in values.items()}
    write(folder, {test: an_entry(metrics=metrics, accepted=Acceptation(because, ""))})


def judgement(test: str = TEST, *, status: str = "failed", **values: float) -> Judgement:
    several = [Comparison(name, status, value=value, unit="tokens") for name, value in values.items()]
    return Judgement(test, "cpu", status, tuple(several), fingerprint=HERE)


def looked(root: Path, *judgements: Judgement, baseline_dir: str | None = None, **settings: Any) -> Pasts:
    return look_back(judgements or [judgement(loss=3.0)], root, baseline_dir, settings.pop("history", None), **settings)


def of(found: Past) -> list[tuple[str, str, bool]]:
    return [(one.shown, one.because, bool(one.commit)) for one in found.accepted]


@pytest.mark.parametrize("chosen", [None, "baselines"])
def test_what_was_accepted_is_there_with_its_reason_once_as_long_as_it_stood(
    tmp_path: Path, chosen: str | None
) -> None:
    folder, key = place_of(tmp_path / "tests" / "test_it.py", NAMES, tmp_path, chosen)
    commits = []
    for because, loss, other in (("first", 1, 5), ("other", 1, 6), ("worse", 2, 6)):
        accept(folder, key, because, loss=loss, other=other)
        commits.append(commit_all(tmp_path)[:12])
    accept(folder, key, "not yet committed", loss=1, other=6)
    loss, other = looked(tmp_path, judgement(loss=3.0, other=6.0), baseline_dir=chosen).found
    assert of(loss) == [
        ("1 tokens", "first", True),
        ("2 tokens", "worse", True),
        ("1 tokens", "not yet committed", False),
    ]
    assert [one.commit for one in loss.accepted] == [commits[0], commits[2], ""]
    assert of(other) == [("5 tokens", "first", True), ("6 tokens", "other", True)]
    assert not any(one.by for one in loss.accepted)


def test_without_commits_there_is_what_the_file_has_now_and_without_a_file_nothing(tmp_path: Path) -> None:
    assert looked(tmp_path).found == (Past(TEST, "loss", "cpu"),)
    accept(tmp_path / "tests" / FOLDER, f"test_it.py::{NAMES}", "first", loss=1)
    assert of(looked(tmp_path).found[0]) == [("1 tokens", "first", False)]


def test_a_commit_with_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    folder, key = tmp_path / "tests" / FOLDER, f"test_it.py::{NAMES}"
    accept(folder, key, "first", loss=1)
    sound = (folder / "cpu.json").read_text()
    for text in (sound, "<<<<<<< HEAD\n" + sound, sound.replace('"value": 1', '"value": 2')):
        (folder / "cpu.json").write_text(text)
        commit_all(tmp_path)
    assert [shown for shown, _, _ in of(looked(tmp_path).found[0])] == ["1 tokens", "2 tokens"]


def test_what_sessions_have_added_to_the_history_is_there(tmp_path: Path) -> None:
    place = tmp_path / "history"
    for value in (1.0, 2.0, 4.0):
        record([judgement(loss=value).to_json()], str(place), tmp_path)
    (mine,) = looked(tmp_path, history=str(place)).found
    assert mine.runs == (1.0, 2.0, 4.0)
    (other,) = looked(tmp_path, judgement("tests/test_it.py::other", loss=1.0), history=str(place)).found
    assert other.runs == ()
    (file,) = place.rglob("0002_*.json")
    file.write_text("damaged")
    found = looked(tmp_path, history=str(place))
    assert found.found[0].runs == (1.0, 4.0)
    assert [problem.partition(" was not read")[0] for problem in found.problems] == [file.relative_to(place).as_posix()]


def test_a_history_that_cannot_be_reached_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    accept(tmp_path / "tests" / FOLDER, f"test_it.py::{NAMES}", "first", loss=1)
    found = looked(tmp_path, history="nosuch://place")
    assert of(found.found[0]) == [("1 tokens", "first", False)]
    assert "history 'nosuch://place' cannot be opened" in found.problems[0]


def test_looking_back_has_an_end_and_begins_with_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 0.0, 9.0, 9.0))
    monkeypatch.setattr(past, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    passed, failed = judgement("a.py::passed", status="passed", loss=1.0), judgement("a.py::failed", loss=1.0)
    found = looked(tmp_path, passed, failed, budget_s=5.0)
    assert [one.test for one in found.found] == ["a.py::failed"]
    assert found.problems == ("of 1 of 2 tests nobody looked back: it takes too long",)


def test_a_past_is_the_same_after_json() -> None:
    found = Past(TEST, "loss", "cpu", (Accepted("1", 1.0, "first", "0123", "2026-01-02", by=True),), (1.0, 2.0))
    assert Past.from_json(found.to_json()) == found
