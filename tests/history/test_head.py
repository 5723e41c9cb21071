"""What is kept of the commit."""

from __future__ import annotations

from pathlib import Path

from history.measured import a_head, day
from repositories import commit_all, git

from pytest_ftcheck.history.head import Head


def test_a_commit_is_known_by_its_id_time_branch_and_project(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("lr = 1\n")
    id = commit_all(tmp_path)
    (tmp_path / "inner").mkdir()
    found = Head.of(tmp_path / "inner")
    assert found == Head(id, git(tmp_path, "show", "--no-patch", "--format=%cI"), "main", tmp_path.name)
    (tmp_path / "train.py").write_text("lr = 2\n")
    assert Head.of(tmp_path).dirty


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert Head.of(tmp_path) == Head("unknown", project=tmp_path.name)


def test_a_repository_without_a_commit_is_none_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert Head.of(tmp_path).id == "unknown"


def test_a_file_is_called_after_commit_and_time() -> None:
    assert a_head(7).file_name(day(7)) == "000000000000_20261108_120000"
    assert a_head(7, dirty=True).file_name(day(7)).endswith("_uncommitted-changes")
