"""A file that people and git write to as well: what is wrong with it is said with its line, and it is never half."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ftcheck import committed
from pytest_ftcheck.committed import CommittedFile, line_of
from pytest_ftcheck.errors import RecordError


@pytest.fixture
def file(tmp_path: Path) -> CommittedFile:
    return CommittedFile(tmp_path / "folder" / "file.json")


def content(file: CommittedFile) -> list[str]:
    return [path.name for path in file.path.parent.iterdir()]


def test_what_is_written_is_read(file: CommittedFile) -> None:
    assert file.read() == ("", None)
    file.write('{"a": 1}')
    file.write('{"a": 2}')
    assert file.read() == ('{"a": 2}', {"a": 2})
    assert content(file) == ["file.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{\n<<<<<<< ours\n"a": 1\n=======\n"a": 2\n>>>>>>> theirs\n}',
            r":2: an unresolved merge conflict \(<<<<<<< o",
        ),
        ('{\n"a": 1\n=======\n"b": 2\n}', r":3: an unresolved merge conflict"),
        ('{\n"a": 1,\n', r":3: not JSON: "),
        ("", r":1: not JSON: "),
        ('{\n"a": 1,\n"b": 2,\n"a": 3}', r":4: two entries are called 'a'"),
        ('{\n"a": 1,\n"b": NaN}', r":3: NaN is not a number that can be compared"),
        ('{\n"a": [1,\n -Infinity]}', r":3: -Infinity is not a number"),
    ],
    ids=["conflict", "half a conflict", "cut off", "empty", "twins", "NaN", "infinity"],
)
def test_a_damaged_file_is_an_error_with_its_line(file: CommittedFile, text: str, message: str) -> None:
    file.write(text)
    with pytest.raises(RecordError, match=message) as caught:
        file.read()
    assert str(caught.value).startswith(f"{file.path}:")


def test_words_that_look_like_damage_within_texts_are_none(file: CommittedFile) -> None:
    file.write('{"a": "NaN: NaN, <<<<<<< ======="}')
    assert file.read()[1] == {"a": "NaN: NaN, <<<<<<< ======="}


def test_what_is_no_text_is_an_error(file: CommittedFile) -> None:
    file.write("{}")
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match=r"file.json:1: cannot be read: .*decode"):
        file.read()


FAILURES = {
    "full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    "read-only file system": (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system"),
    "forbidden": (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
}


@pytest.mark.parametrize("step", ["mkstemp", "fsync", "replace"])
@pytest.mark.parametrize("failure", FAILURES)
def test_where_it_cannot_be_written_the_old_file_stays(
    file: CommittedFile, monkeypatch: pytest.MonkeyPatch, failure: str, step: str
) -> None:
    error, text = FAILURES[failure]
    file.write("{}")

    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(committed.tempfile if step == "mkstemp" else committed.os, step, refuse)
    with pytest.raises(RecordError, match=rf"file.json cannot be written: {text}; it is as it was"):
        file.write('{"a": 1}')
    assert file.path.read_text() == "{}"
    assert content(file) == ["file.json"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(RecordError, match=r"file.json cannot be written: (File exists|Not a directory)"):
        CommittedFile(tmp_path / "folder" / "file.json").write("{}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs /dev/full and signals of POSIX")
def test_a_disk_that_is_really_full_leaves_the_old_file(tmp_path: Path) -> None:
    # A limit on the size of files is the nearest to a full disk that a test may bring about.
    script = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from pytest_ftcheck.committed import CommittedFile\n"
        "file = CommittedFile(Path(sys.argv[1]))\nfile.write('{}')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "file.write('x' * 100_000)\n"
    )
    path = tmp_path / "file.json"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "RecordError" in done.stderr
    assert "cannot be written: File too large; it is as it was" in done.stderr
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from pytest_ftcheck.committed import CommittedFile\n"
        "file = CommittedFile(Path(sys.argv[1]))\nfile.write('{}')\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "file.write('x' * 100_000)\n"
    )
    path = tmp_path / "file.json"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "{}"


def test_the_file_keeps_its_mode_and_a_new_one_is_like_any_other(file: CommittedFile, tmp_path: Path) -> None:
    (tmp_path / "any").write_text("")
    file.write("{}")
    assert file.path.stat().st_mode == (tmp_path / "any").stat().st_mode
    file.path.chmod(0o640)
    file.write("[]")
    assert file.path.stat().st_mode & 0o777 == 0o640


def test_the_line_of_a_field_is_that_of_its_last_key() -> None:
    text = '{\n"a": {\n"x": 1},\n"b": {\n"x": 2}}'
    assert line_of(text, ["b", "x"]) == 5
    assert line_of(text, ["b", "y"]) == 4
