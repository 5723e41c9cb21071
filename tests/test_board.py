from __future__ import annotations

import json
from pathlib import Path

from pytest_ftcheck.board import Board


def test_a_notice_is_read_as_it_was_posted_and_replaced_whole(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    board.open()
    board.post("tests", ["a", "b"])
    board.post("tests", ["c"])
    board.post("other", {"step": 3})
    assert (board.read("tests"), board.read("other"), board.names()) == (["c"], {"step": 3}, ["other", "tests"])
    board.remove("tests")
    board.remove("tests")
    assert (board.read("tests"), board.names()) == (None, ["other"])


def test_a_damaged_notice_and_a_draft_are_none(tmp_path: Path) -> None:
    (tmp_path / "tests.json").write_text(json.dumps(["a"])[:-1])
    (tmp_path / ".tests-1234").write_text("[")
    assert Board(tmp_path).read("tests") is None
    assert Board(tmp_path).names() == ["tests"]


def test_what_is_posted_when_all_is_over_leaves_nothing_behind(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    board.open()
    board.post("tests", [])
    board.close()
    board.post("tests", [])
    assert (list(tmp_path.iterdir()), board.read("tests"), board.names()) == ([], None, [])


def test_each_session_has_a_board_of_its_own_that_nobody_else_may_read() -> None:
    board, other = Board.new(), Board.new()
    assert board.folder != other.folder
    assert not board.folder.exists()
    board.open()
    assert board.folder.stat().st_mode & 0o077 == 0
    board.close()
