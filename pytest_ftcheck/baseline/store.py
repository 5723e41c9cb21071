"""The file of one environment's baselines: ``__ftcheck__/cpu.json`` beside the tests.

Sorted, with a line for each metric, so that a diff of it says what has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..committed import CommittedFile, line_of
from ..errors import RecordError
from .entry import Entry, EntryError

FOLDER = "__ftcheck__"
# Counted up with every change of what a file holds; UPGRADES[n] makes the data of format n + 1 of those of format n.
FORMAT = 1
UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

# Objects down to this depth have a line for each key; what is deeper is written as far as it goes on one line.
OPEN_DEPTH = 4
WIDTH = 110


class BaselineFile:
    """The baselines of ``environment`` in ``folder``, by test. Errors are RecordErrors, with file and line. ``text``:
    what it held at another time.
    """

    def __init__(self, folder: Path, environment: str, text: str | None = None) -> None:
        self.environment = environment
        self._file = CommittedFile(folder / f"{environment}.json")
        self._text = text
        self._read: tuple[str, dict[str, Any]] | None = None

    @property
    def path(self) -> Path:
        return self._file.path

    def tests(self) -> tuple[str, ...]:
        """The keys of all tests that have a baseline here."""
        return tuple(self._data()[1])

    def entry(self, test: str) -> Entry | None:
        """The baseline of ``test``; None where there is none. The file is read once, and decoded entry by entry: it may
        have ten thousand.
        """
        if self._text is None:
            self._text = self._file.text() or ""
        start = self._start_of(self._text, test)
        if start is None:
            text, tests = self._data()
            data = tests.get(test)
        else:
            text, data = self._text, self._file.decoded(self._text, start)
        return None if data is None else self._entry(text, test, data)

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """The plain data of all tests, to be changed: read within the lock, and written when the body ends well."""
        with self._file.locked():
            self._forget()
            before, tests = self._data()
            tests = dict(tests)
            yield tests
            text = rendered({"environment": self.environment, "format": FORMAT, "tests": tests}) + "\n"
            if text != before:
                self._file.write(text)
            self._forget()

    def _forget(self) -> None:
        self._text = self._read = None

    def _entry(self, text: str, test: str, data: Any) -> Entry:
        try:
            found = Entry.from_data(data)
            other = found.fingerprint.environment_class
            if other != self.environment:
                what = f"a baseline of {other} in the file of {self.environment}: two environments in one file"
                raise EntryError(["fingerprint"], what)
        except EntryError as error:
            raise self._file.damaged(line_of(text, ["tests", test, *error.path]), str(error)) from None
        return found

    def _start_of(self, text: str, test: str) -> int | None:
        """Where the entry of ``test`` begins in a file as it is written here; None where the whole must be decoded."""
        head, tail = self._frame
        key = f"\n    {json.dumps(test, ensure_ascii=False)}: "
        found = text.find(key)
        if found < 0 or not (text.startswith(head) and text.endswith(tail)) or text.find(key, found + 1) >= 0:
            return None
        return found + len(key)

    @property
    def _frame(self) -> tuple[str, str]:
        """What a file of this environment and today's form begins with, and what it ends with."""
        empty = rendered({"environment": self.environment, "format": FORMAT, "tests": {"": 0}}) + "\n"
        head, _, tail = empty.partition('    "": 0')
        return head, tail

    def _data(self) -> tuple[str, dict[str, Any]]:
        if self._read is None:
            self._read = self._fresh()
        return self._read

    def _fresh(self) -> tuple[str, dict[str, Any]]:
        text = self._file.text() or "" if self._text is None else self._text
        if not text:
            return "", {}
        data = self._file.decoded(text)
        if not isinstance(data, dict) or not {"environment", "format", "tests"} <= data.keys():
            raise self._file.damaged(1, "expected an object with environment, format and tests")
        data = self._upgraded(text, data)
        if data["environment"] != self.environment:
            what = f"environment is {data['environment']!r} in the file of {self.environment}"
            raise self._file.damaged(line_of(text, ["environment"]), what)
        if not isinstance(data["tests"], dict):
            raise self._file.damaged(line_of(text, ["tests"]), "expected an object")
        return text, data["tests"]

    def _upgraded(self, text: str, data: dict[str, Any]) -> dict[str, Any]:
        """The data in today's form."""
        found = data["format"]
        line = line_of(text, ["format"])
        if type(found) is int and found > FORMAT:
            what = f"format {found} is of a newer pytest-ftcheck; this one reads formats up to {FORMAT}"
            raise self._file.damaged(line, what)
        while found != FORMAT:
            if found not in UPGRADES:
                raise self._file.damaged(line, f"format is {found!r}; expected a number up to {FORMAT}")
            data, found = UPGRADES[found](data), found + 1
        return data


def place_of(file: Path, names: str, root: Path, chosen: str | None) -> tuple[Path, str]:
    """The folder of a test's baselines, and what it is called in them: its file and ``names``, those of its classes and
    its own. ``chosen`` is one folder for all, relative to ``root``.
    """
    if not chosen:
        return file.parent / FOLDER, f"{file.name}::{names}"
    return root / chosen, f"{Path(os.path.relpath(file, root)).as_posix()}::{names}"


def baseline_files(folder: Path) -> list[BaselineFile]:
    """The files of all environments in ``folder``."""
    return [BaselineFile(folder, path.stem) for path in sorted(folder.glob("*.json"))]


def refuse_unwritable(path: Path) -> None:
    """Raise RecordError where ``path`` cannot be written, before anything is trained for it."""
    existing = next(parent for parent in path.parents if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise RecordError(f"{path} cannot be written: {existing} is read-only, or no folder")


def rendered(value: Any, depth: int = 0) -> str:
    """JSON, sorted, indented by two, with short objects on one line and lists over as few lines as they need."""
    pad = "  " * (depth + 1)
    if not (isinstance(value, dict) and value and depth < OPEN_DEPTH):
        line = _dumped(value)
        if len(line) + len(pad) <= WIDTH or not isinstance(value, (dict, list)):
            return line
    if isinstance(value, list):
        return "[\n" + "\n".join(pad + part for part in _filled(value, WIDTH - len(pad))) + "\n" + pad[2:] + "]"
    items = [f"{_dumped(key)}: {rendered(item, depth + 1)}" for key, item in sorted(value.items())]
    return "{\n" + ",\n".join(pad + item for item in items) + "\n" + pad[2:] + "}"


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _filled(items: list[Any], width: int) -> list[str]:
    """The items of a list, as many on a line as there is room for."""
    texts = [_dumped(item) for item in items]
    lines = [""]
    for index, text in enumerate(texts):
        piece = text + ("," if index < len(texts) - 1 else "")
        if lines[-1] and len(lines[-1]) + 1 + len(piece) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + piece
    return lines
