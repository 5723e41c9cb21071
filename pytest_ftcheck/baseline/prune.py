"""Baselines of tests that are gone: only what a collection shows to be gone counts, and it is removed on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .store import BaselineFile


@dataclass(frozen=True)
class Gone:
    """A baseline in ``file`` whose test is no longer there."""

    file: BaselineFile
    test: str


@dataclass(frozen=True)
class Collected:
    """The tests of a collection, by the folder that their baselines are in, and the test files that were looked at."""

    tests: Mapping[Path, frozenset[str]]
    files: frozenset[Path]


def gone(files: Sequence[BaselineFile], collected: Collected, base: Mapping[Path, Path]) -> tuple[Gone, ...]:
    """The baselines in ``files`` that are of no test: their test file was collected without it, or does not exist.

    ``base`` says of a folder of baselines what the names of test files in it are relative to.
    """
    found = []
    for file in files:
        folder = file.path.parent
        known = collected.tests.get(folder, frozenset())
        for test in file.tests():
            path = (base[folder] / test.partition("::")[0]).resolve()
            if test not in known and (path in collected.files or not path.exists()):
                found.append(Gone(file, test))
    return tuple(found)


def remove(found: Sequence[Gone]) -> None:
    """Remove the entries, each file written once. A file stays, with no entry in it, for git to show."""
    files = {one.file.path: one.file for one in found}
    for path, file in files.items():
        with file.changing() as tests:
            for one in found:
                if one.file.path == path:
                    tests.pop(one.test, None)
