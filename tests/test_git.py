"""What is asked of git, and what is said where it does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import commit_all

from pytest_ftcheck.git import git, is_installed


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "ä.py").write_text("lr = 1\n")
    commit_all(tmp_path)
    return tmp_path


def test_it_answers_from_any_folder_of_the_repository(repository: Path) -> None:
    (repository / "inner").mkdir()
    assert git(repository / "inner", "rev-parse", "--show-toplevel") == f"{repository}\n"
    assert git(repository, "ls-files", "-z") == "ä.py\0"


def test_a_hook_s_variables_do_not_lead_elsewhere(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert git(repository, "ls-files", "-z") == "ä.py\0"


def test_what_fails_gives_nothing(repository: Path) -> None:
    assert git(repository, "rev-parse", "--verify", "nowhere") is None
    assert git(repository / "gone", "status") is None


def test_a_git_that_hangs_is_given_up(repository: Path) -> None:
    # An alias that is a shell command.
    assert git(repository, "-c", "alias.wait=!sleep 30", "wait", time_limit_s=0.5) is None


def test_where_there_is_no_git_there_is_no_answer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()
    monkeypatch.setenv("PATH", "")
    assert not is_installed()
    assert git(repository, "status") is None
