"""``python -m pytest_ftcheck.baseline prune``: baselines of tests that are gone; see ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..errors import FtcheckError
from ..gating import place
from ..session import SESSION
from .prune import Collected, gone, remove
from .store import FOLDER, BaselineFile, baseline_files

PROGRAM = "python -m pytest_ftcheck.baseline"
GONE, REFUSED = 1, 2
# What a collection may end with: tests, or none.
WELL = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Collector:
    """Takes down every test that is collected, also those that -k, -m or a plugin then leaves out."""

    def __init__(self) -> None:
        self.tests: dict[Path, set[str]] = {}
        self.files: set[Path] = set()
        self.root = Path()
        self.chosen: Path | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        settings = config.stash[SESSION].settings
        self.root = config.rootpath
        self.chosen = self.root / settings.baseline_dir if settings.baseline_dir else None

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        folder, test = place(item, item.config.stash[SESSION])
        self.tests.setdefault(folder.resolve(), set()).add(test)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        file = self.root / report.nodeid.partition("::")[0]
        if report.passed and file.is_file():
            self.files.add(file.resolve())

    def collected(self) -> Collected:
        return Collected({folder: frozenset(tests) for folder, tests in self.tests.items()}, frozenset(self.files))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 where no baseline is left over (any more), 1 where some are, 2 where that cannot be told."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Work on baselines of pytest-ftcheck.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prune = commands.add_parser("prune", help="list baselines of tests that are gone", description=main.__doc__)
    prune.add_argument("paths", nargs="*", metavar="PATH", help="tests to collect (default: as pytest does)")
    prune.add_argument("--yes", action="store_true", help="remove them")
    options = parser.parse_args(arguments)
    try:
        return _prune(options.paths, options.yes)
    except FtcheckError as error:
        print(f"{PROGRAM}: {str(error).splitlines()[0]}", file=sys.stderr)
        return REFUSED


def _prune(paths: Sequence[str], yes: bool) -> int:
    collector = Collector()
    # What pytest prints is shown only where it cannot collect.
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *paths], [collector])
    if status not in WELL:
        print(told.getvalue(), file=sys.stderr)
        print(f"{PROGRAM}: the tests cannot be collected (pytest ends with {int(status)})", file=sys.stderr)
        return REFUSED
    files, base = _files(collector)
    found = gone(files, collector.collected(), base)
    for one in found:
        print(f"{'removed' if yes else 'gone'}: {one.test} in {one.file.path}")
    if yes:
        remove(found)
        return 0
    if found:
        print(f"{len(found)} baselines are of no test; {PROGRAM} prune --yes removes them")
    return GONE if found else 0


def _files(collector: Collector) -> tuple[list[BaselineFile], dict[Path, Path]]:
    """All files of baselines in the repository, and what the names of tests in each folder are relative to."""
    if collector.chosen:
        folders = {collector.chosen.resolve(): collector.root}
    else:
        found = [folder.resolve() for folder in collector.root.rglob(FOLDER) if folder.is_dir()]
        folders = {folder: folder.parent for folder in found}
    return [file for folder in folders for file in baseline_files(folder)], folders


if __name__ == "__main__":
    sys.exit(main())
