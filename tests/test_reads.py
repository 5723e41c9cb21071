"""The data files that a training reads."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ftcheck.reads import recorded_reads, unchanged


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("rows")
    return path


def opened(path: Path) -> None:
    with open(path):
        pass


def opened_low(path: Path | str | bytes) -> None:
    os.close(os.open(path, os.O_RDONLY))


def opened_relative(path: Path) -> None:
    with contextlib.chdir(path.parent) if sys.version_info >= (3, 11) else _chdir(path.parent):
        opened(Path(path.name))


@contextlib.contextmanager
def _chdir(folder: Path):  # type: ignore[no-untyped-def]
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def opened_to_change(path: Path) -> None:
    with path.open("r+") as file:
        file.write("R")


READERS: list[Callable[[Path], object]] = [
    *(opened, Path.read_text, Path.read_bytes, opened_relative, opened_to_change),
    *(lambda path: opened_low(path), lambda path: opened_low(str(path)), lambda path: opened_low(os.fsencode(path))),
]


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_was_read_is_recorded(data: Path, read: Callable[[Path], object]) -> None:
    with recorded_reads() as reads:
        read(data)
    assert list(reads) == [str(data)]
    assert unchanged(reads)


@pytest.mark.parametrize("mode", ["w", "wb", "a", "x"])
def test_a_file_that_was_only_written_is_not_recorded(data: Path, mode: str) -> None:
    with recorded_reads() as reads, open(data.with_name(f"of {mode}"), mode):
        pass
    assert reads == {}


def test_a_file_that_was_written_through_a_descriptor_is_not_recorded(data: Path) -> None:
    with recorded_reads() as reads:
        os.close(os.open(data, os.O_WRONLY | os.O_APPEND))
    assert reads == {}


def test_what_is_read_before_and_after_is_not_recorded(data: Path) -> None:
    data.read_text()
    with recorded_reads() as reads:
        pass
    data.read_text()
    assert reads == {}


def test_a_file_counts_as_it_is_at_the_end(data: Path) -> None:
    with recorded_reads() as reads:
        data.read_text()
        data.write_text("other rows")
    assert unchanged(reads)


def test_a_file_that_is_gone_by_the_end_is_not_recorded(data: Path) -> None:
    with recorded_reads() as reads:
        data.read_text()
        data.unlink()
    assert reads == {}


def test_reads_are_recorded_where_the_body_fails(data: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), recorded_reads() as reads:
        data.read_text()
        _ = 1 / 0
    assert list(reads) == [str(data)]


@pytest.mark.parametrize("inner_fails", [False, True])
def test_what_an_inner_record_saw_the_outer_one_saw_too(data: Path, inner_fails: bool) -> None:
    first, second = data, data.with_name("second.txt")
    second.write_text("rows")
    with recorded_reads() as outer:
        with contextlib.suppress(ZeroDivisionError), recorded_reads() as inner:
            first.read_text()
            _ = 1 / (not inner_fails)
        second.read_text()
    assert list(inner) == [str(first)]
    assert list(outer) == [str(first), str(second)]


def installed_file() -> Path:
    return min(Path(sysconfig.get_path("purelib")).glob("*.dist-info/METADATA"))


@pytest.mark.parametrize(
    "path",
    [Path(__file__), Path(os.__file__), installed_file(), Path("/proc/self/status"), Path("/etc/passwd")],
    ids=str,
)
def test_sources_and_files_of_the_system_are_not_recorded(path: Path) -> None:
    with recorded_reads() as reads:
        assert path.read_bytes()
    assert reads == {}


def test_files_in_a_trainings_own_folder_are_not_recorded() -> None:
    with tempfile.TemporaryDirectory(prefix="ftcheck-") as folder, recorded_reads() as reads:
        path = Path(folder, "checkpoint.json")
        path.write_text("{}")
        path.read_text()
    assert reads == {}


def test_a_folder_beside_the_installed_packages_is_not_theirs(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = data.parent / "lib"
    monkeypatch.setattr("sysconfig.get_path", lambda key: str(library))
    paths = [library / "file.txt", data.parent / "library" / "file.txt"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("rows")
    with recorded_reads() as reads:
        for path in paths:
            path.read_text()
    assert list(reads) == [str(paths[1])]


def test_a_device_is_not_recorded() -> None:
    with recorded_reads() as reads:
        opened(Path(os.devnull))
    assert reads == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with recorded_reads() as reads:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    assert reads == {}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda path: None, True),
        (lambda path: os.utime(path, (1, 1)), True),
        (lambda path: path.write_text("rows"), True),
        (lambda path: path.write_text("Rows"), False),
        (lambda path: path.write_text(""), False),
        (lambda path: path.unlink(), False),
        (lambda path: (path.unlink(), path.mkdir()), False),
    ],
)
def test_a_changed_file_is_noticed_by_its_content(data: Path, change: Callable[[Path], object], same: bool) -> None:
    with recorded_reads() as reads:
        data.read_text()
    change(data)
    assert unchanged(reads) == same


def test_one_changed_file_of_several_is_enough(data: Path) -> None:
    paths = [data, data.with_name("second.txt"), data.with_name("third.txt")]
    with recorded_reads() as reads:
        for path in paths:
            path.write_text("rows")
            path.read_text()
    assert unchanged(reads)
    paths[1].write_text("Rows")
    assert not unchanged(reads)


def test_a_training_that_read_nothing_depends_on_nothing() -> None:
    assert unchanged({})


def test_a_file_larger_than_one_block_counts_to_its_end(data: Path) -> None:
    data.write_bytes(b"a" * (1 << 20) + b"b")
    with recorded_reads() as reads:
        data.read_bytes()
    data.write_bytes(b"a" * (1 << 20) + b"c")
    assert not unchanged(reads)
