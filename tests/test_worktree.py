"""What git says of the files under guard."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import commit_all, git

from pytest_ftcheck.worktree import commit, uncommitted


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "train.py").write_text("lr = 1\n")
    (tmp_path / "data.jsonl").write_text("{}\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    commit_all(tmp_path)
    return tmp_path


def test_a_committed_tree_is_clean_and_has_a_commit(repository: Path) -> None:
    assert uncommitted(repository) == ()
    assert commit(repository) == git(repository, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize("name", ["train.py", "data.jsonl", "new.py"])
def test_a_changed_file_and_new_code_are_uncommitted_also_seen_from_a_folder_within(
    repository: Path, name: str
) -> None:
    (repository / name).write_text("lr = 2\n")
    assert uncommitted(repository / "inner") == (repository / name,)


@pytest.mark.parametrize("name", ["notes.txt", "ignored.py", ".venv/lib/python3/site-packages/torch.py"])
def test_what_is_no_code_of_the_repository_does_not_count(repository: Path, name: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("anything")
    assert uncommitted(repository) == ()


def test_what_is_staged_and_what_is_removed_are_uncommitted(repository: Path) -> None:
    (repository / "train.py").unlink()
    (repository / "data.jsonl").write_text("[]\n")
    git(repository, "add", "data.jsonl")
    assert set(uncommitted(repository)) == {repository / "train.py", repository / "data.jsonl"}


def test_outside_of_a_repository_nothing_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("lr = 1\n")
    assert uncommitted(tmp_path) == ()
    assert commit(tmp_path) == ""


def test_a_repository_without_a_commit_is_all_uncommitted(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert uncommitted(tmp_path) == (tmp_path,)


def test_without_git_nothing_can_be_told(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(repository) == ""
    assert uncommitted(repository) == ()
