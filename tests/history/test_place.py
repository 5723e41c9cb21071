"""A folder, and what fsspec reaches, hold files under numbers; every error is a line that names the place."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pytest_ftcheck.errors import HistoryError
from pytest_ftcheck.history.place import Place


@pytest.fixture(params=["folder", "fsspec"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "history") if request.param == "folder" else f"memory://{tmp_path.name}/history"
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


def texts(place: Place) -> dict[str, bytes | HistoryError]:
    return dict(place.texts(place.names()))


def test_what_is_added_is_found_again_in_the_order_of_its_numbers(where: str) -> None:
    added = [Place(where).add("cpu/here", "one", str(i)) for i in range(11)]
    added += [Place(where).add("gpu/here", "one", "other")]
    place = Place(where)
    assert place.names() == added
    assert [name.split("/")[-1][:5] for name in added] == [*(f"{i:04}_" for i in range(1, 12)), "0001_"]
    assert texts(place)[added[10]] == b"10"
    assert list(Place(where).texts([])) == []


def test_a_place_that_is_not_there_yet_is_empty(where: str) -> None:
    assert Place(where).names() == []


def test_two_that_take_the_same_number_keep_both(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(where)
    monkeypatch.setattr(Place, "names", lambda self: [])
    first, second = place.add("cpu", "same", "1"), place.add("cpu", "same", "2")
    monkeypatch.undo()
    assert texts(place) == {first: b"1", second: b"2"}


def test_files_that_are_no_runs_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.json", "0001_run.txt", ".ftcheck-partial-x", "sub/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "0001_run.json").write_text("{}")
    assert Place(str(tmp_path)).names() == ["0001_run.json"]


def test_a_new_folder_keeps_itself_out_of_commits_and_an_old_one_is_left_as_it_is(tmp_path: Path) -> None:
    Place(str(tmp_path / "new")).add("cpu", "one", "1")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"
    Place(str(tmp_path)).add("cpu", "one", "1")
    assert not (tmp_path / ".gitignore").exists()


def test_one_unreadable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    good, bad = place.add("cpu", "one", "1"), place.add("cpu", "two", "2")
    (tmp_path / bad).unlink()
    found = dict(place.texts([good, bad]))
    assert found[good] == b"1"
    assert isinstance(found[bad], HistoryError)
    assert str(found[bad]).startswith(f"history '{tmp_path}' {bad} cannot be read: FileNotFoundError")


@pytest.mark.parametrize("where", ["nosuch://bucket/ci", "s3://"])
def test_a_url_that_cannot_be_opened_is_refused_in_a_line(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    with pytest.raises(HistoryError) as raised:
        Place(where)
    assert str(raised.value).startswith(f"history {where!r} cannot be opened: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_read_only_folder_and_a_full_disk_are_a_line_and_leave_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HistoryError) as raised:
        Place(str(tmp_path)).add("cpu", "one", "1")
    text = str(raised.value)
    assert text.startswith(f"history '{tmp_path}' cannot be written: {tmp_path}/cpu/0001_one_")
    assert os.strerror(number) in text
    assert "\n" not in text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
