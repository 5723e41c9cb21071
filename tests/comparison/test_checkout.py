"""Another commit is checked out while it is needed, and gone afterwards."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from repositories import commit_all, git, repository

from pytest_ftcheck.comparison.checkout import checked_out, commit_of, toplevel
from pytest_ftcheck.errors import ComparisonError


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = repository(tmp_path / "mine", {"value.txt": "old", "sub/other.txt": "x"})
    (top / "value.txt").write_text("new")
    return top


def trees(top: Path) -> int:
    return len(git(top, "worktree", "list").splitlines())


def test_the_tree_has_what_was_committed_and_this_one_is_left_alone(repo: Path) -> None:
    with checked_out(commit_of("HEAD", repo), repo) as tree:
        assert (tree / "value.txt").read_text() == "old"
        assert (tree / "sub" / "other.txt").exists()
        assert trees(repo) == 2
    assert (repo / "value.txt").read_text() == "new"
    assert trees(repo) == 1
    assert not tree.parent.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ComparisonError])
def test_it_is_gone_after_ctrl_c_and_errors(repo: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), checked_out(commit_of("HEAD", repo), repo) as tree:
        raise error
    assert not tree.parent.exists()
    assert trees(repo) == 1


def test_sigterm_is_what_it_was_afterwards(repo: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with checked_out(commit_of("HEAD", repo), repo):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_worktrees_of_the_users_own_are_left_alone(repo: Path) -> None:
    """Also one whose disk is not there just now."""
    away = repo.parent / "away"
    git(repo, "worktree", "add", "--quiet", "--detach", str(away))
    away.rename(repo.parent / "unmounted")
    with checked_out(commit_of("HEAD", repo), repo):
        pass
    assert str(away) in git(repo, "worktree", "list")


def test_hooks_of_the_repository_do_not_run(repo: Path) -> None:
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {repo}/ran\n")
    hook.chmod(0o755)
    with checked_out(commit_of("HEAD", repo), repo):
        pass
    assert not (repo / "ran").exists()


@pytest.mark.parametrize("ref", ["HEAD", "a-branch", "a-tag"])
def test_branches_tags_and_commits_are_found(repo: Path, ref: str) -> None:
    git(repo, "branch", "a-branch")
    git(repo, "tag", "-a", "a-tag", "-m", "annotated")
    commit_all(repo)
    git(repo, "branch", "-f", "a-branch")
    expected = git(repo, "rev-parse", "HEAD~1" if ref == "a-tag" else "HEAD")
    assert commit_of(ref, repo) == expected
    assert commit_of(expected[:10], repo) == expected


def test_what_names_no_commit_is_refused(repo: Path) -> None:
    with pytest.raises(ComparisonError, match="--ftcheck-against is 'nowhere'; allowed: a branch, tag or commit"):
        commit_of("nowhere", repo)


def test_the_top_is_found_from_below(repo: Path) -> None:
    assert toplevel(repo / "sub") == repo


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="is not in a git repository"):
        toplevel(tmp_path)


def test_a_machine_without_git_is_told_so(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    with pytest.raises(ComparisonError, match="needs git, which is not installed"):
        toplevel(repo)


def test_variables_that_git_sets_for_its_hooks_do_not_mislead(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = repository(repo.parent / "other", {"value.txt": "other"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_index := repo.parent / "index"))
    assert toplevel(repo) == repo
    with checked_out(commit_of("HEAD", repo), repo):
        assert not tmp_index.exists()


def test_a_commit_that_cannot_be_checked_out_leaves_nothing(repo: Path) -> None:
    with pytest.raises(ComparisonError, match="git cannot check out"), checked_out("0" * 40, repo):
        pass
    assert trees(repo) == 1


def test_git_is_there_for_these_tests() -> None:
    assert subprocess.run(["git", "--version"], capture_output=True, check=False).returncode == 0
