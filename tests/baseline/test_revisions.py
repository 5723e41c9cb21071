"""A baseline's file in earlier commits."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import commit_all, git

from pytest_ftcheck import git as asking
from pytest_ftcheck.baseline import revisions as module
from pytest_ftcheck.baseline.revisions import revisions
from pytest_ftcheck.baseline.store import BaselineFile


def folder_of(root: Path) -> Path:
    """The folder has what git's output is separated by in its name."""
    return root / "tests of\tä" / "__ftcheck__"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Four commits, the third of which is about something else; and the names of the others."""
    root, commits = tmp_path_factory.mktemp("repository"), []
    folder_of(root).mkdir(parents=True)
    for number in range(3):
        (folder_of(root) / "cpu.json").write_text(f'{{"environment": "cpu", "format": 1, "tests": {{"t{number}": 0}}}}')
        commits.append(commit_all(root)[:12])
        (root / "train.py").write_text(f"lr = {number}")
        commit_all(root)
    return root, commits


def found(root: Path, **limits: int) -> list[tuple[str, bool, tuple[str, ...]]]:
    several = revisions(BaselineFile(folder_of(root), "cpu"), **limits)
    return [(one.commit, one.by, one.file.tests()) for one in several]


def test_each_commit_that_changed_it_is_there_with_what_it_had(repository: tuple[Path, list[str]]) -> None:
    root, commits = repository
    assert found(root) == [(commit, False, (f"t{number}",)) for number, commit in enumerate(commits)]
    (day,) = {one.day for one in revisions(BaselineFile(folder_of(root), "cpu"))}
    assert day == git(root, "show", "--no-patch", "--format=%cs")


def test_of_many_the_last_are_looked_at_and_the_first_of_them_may_not_be_the_beginning(
    repository: tuple[Path, list[str]],
) -> None:
    root, commits = repository
    assert found(root, most=2) == [(commits[1], True, ("t1",)), (commits[2], False, ("t2",))]


def test_the_border_of_a_shallow_clone_is_no_beginning(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, commits = repository
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    ((commit, by, tests),) = found(tmp_path / "shallow")
    assert commit not in commits
    assert (by, tests) == (True, ("t2",))


def test_a_merge_is_what_brought_it_to_this_branch(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    commit_all(tmp_path)
    git(tmp_path, "checkout", "-q", "-b", "other")
    folder_of(tmp_path).mkdir(parents=True)
    (folder_of(tmp_path) / "cpu.json").write_text('{"environment": "cpu", "format": 1, "tests": {"t": 0}}')
    commit_all(tmp_path)
    git(tmp_path, "checkout", "-q", "-")
    git(tmp_path, "merge", "-q", "--no-ff", "other", "-m", "merged")
    assert found(tmp_path) == [(git(tmp_path, "rev-parse", "HEAD")[:12], False, ("t",))]


def test_a_commit_that_removed_it_has_none(tmp_path: Path) -> None:
    folder_of(tmp_path).mkdir(parents=True)
    for text in ('{"environment": "cpu", "format": 1, "tests": {"t": 0}}', None):
        path = folder_of(tmp_path) / "cpu.json"
        path.write_text(text) if text else path.unlink()
        (folder_of(tmp_path) / "other.json").write_text("")
        last = commit_all(tmp_path)
    assert [by for _, by, _ in found(tmp_path)] == [False]
    assert last[:12] not in [commit for commit, _, _ in found(tmp_path)]


def test_without_git_a_repository_or_a_folder_there_is_nothing(
    repository: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(tmp_path) == []
    folder_of(tmp_path).mkdir(parents=True)
    assert found(tmp_path) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not asking.is_installed()
    assert found(repository[0]) == []


def test_what_takes_too_long_is_left_out(repository: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT_S", 1e-9)
    assert found(repository[0]) == []


def test_a_folder_that_nobody_may_write_to_is_read(repository: tuple[Path, list[str]], tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repository[0]), "locked")
    every = [tmp_path / "locked", *(tmp_path / "locked").rglob("*")]
    modes = [(path, path.stat().st_mode) for path in every]
    for path, mode in modes:
        path.chmod(mode & ~0o222)
    try:
        assert len(found(tmp_path / "locked")) == 3
    finally:
        for path, mode in modes:
            path.chmod(mode)
