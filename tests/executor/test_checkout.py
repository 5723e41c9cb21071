from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_ftcheck.executor.checkout import Checkout


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Ray makes of a repository on a node, where it also begins."""
    folder = tmp_path.resolve() / "_ray_pkg_1"
    (folder / "tests").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["/installed"])
    return folder


def test_on_a_node_the_copy_takes_the_place_of_the_repository(copy: Path) -> None:
    checkout = Checkout("/repo", "/repo/tests", ("/repo", "/repo/tests", "/installed", "/elsewhere"))
    with checkout.entered() as told:
        assert Path.cwd() == copy / "tests"
        assert sys.path == ["/installed", str(copy), str(copy / "tests"), "/elsewhere"]
        assert told(f"at {copy}/finetune.py:31 in train") == "at /repo/finetune.py:31 in train"
    assert Path.cwd() == copy, "the process may be given another run"


def test_a_name_that_begins_like_the_repository_is_another_folder(copy: Path) -> None:
    with Checkout("/repo", "/repo", ("/repository",)).entered():
        assert sys.path[-1] == "/repository"


def test_a_session_outside_of_its_repository_goes_where_the_copy_is(copy: Path) -> None:
    with Checkout("/repo", "/nowhere", ()).entered():
        assert Path.cwd() == copy


def test_links_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repo").mkdir()
    os.symlink(tmp_path / "repo", tmp_path / "link")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "link")])
    checkout = Checkout.of(tmp_path / "link")
    assert checkout.root == checkout.path[0] == str((tmp_path / "repo").resolve())
