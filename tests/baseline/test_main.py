"""Removing what is left over: only that, and only when asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from baseline.entries import an_entry, write

from pytest_ftcheck.baseline.store import BaselineFile


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tests, one of them left out by -m in the ini file, and baselines of them, of a third, and of another file."""
    pytester.makeini("[pytest]\naddopts = -m 'not slow'\nmarkers = slow")
    pytester.makepyfile(
        test_it="""
        import pytest
        def test_here(): pass
        @pytest.mark.slow
        @pytest.mark.parametrize("number", [1])
        def test_slow(number): pass
        """
    )
    names = ("test_it.py::test_here", "test_it.py::test_slow[1]", "test_it.py::test_gone", "test_lost.py::test_it")
    write(pytester.path / "__ftcheck__", {name: an_entry() for name in names})
    return pytester


def prune(project: pytest.Pytester, *arguments: str) -> tuple[int, list[str], str]:
    command = [sys.executable, "-m", "pytest_ftcheck.baseline", "prune", *arguments]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def left(project: pytest.Pytester) -> set[str]:
    return set(BaselineFile(project.path / "__ftcheck__", "cpu").tests())


def test_what_is_gone_is_listed_and_then_removed_and_nothing_else(project: pytest.Pytester) -> None:
    file = project.path / "__ftcheck__" / "cpu.json"
    before = file.read_bytes()
    status, lines, _ = prune(project)
    assert status == 1
    assert lines == [
        f"gone: test_it.py::test_gone in {file}",
        f"gone: test_lost.py::test_it in {file}",
        "2 baselines are of no test; python -m pytest_ftcheck.baseline prune --yes removes them",
    ]
    assert file.read_bytes() == before
    status, lines, _ = prune(project, "--yes")
    assert (status, len(lines)) == (0, 2)
    assert left(project) == {"test_it.py::test_here", "test_it.py::test_slow[1]"}
    assert prune(project)[:2] == (0, [])


def test_of_files_that_were_not_collected_nothing_is_removed(project: pytest.Pytester) -> None:
    (project.path / "test_lost.py").write_text("def test_other(): pass\n")
    prune(project, "test_it.py", "--yes")
    assert left(project) == {"test_it.py::test_here", "test_it.py::test_slow[1]", "test_lost.py::test_it"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "test_it.py").write_text("def test_it(:"), "the tests cannot be collected"),
        (lambda path: (path / "__ftcheck__" / "cpu.json").write_text("{"), "cpu.json:1: not JSON"),
    ],
)
def test_where_it_cannot_be_told_nothing_is_removed(project: pytest.Pytester, damage: object, message: str) -> None:
    assert callable(damage)
    damage(project.path)
    before = (project.path / "__ftcheck__" / "cpu.json").read_bytes()
    status, _, errors = prune(project, "--yes")
    assert status == 2
    assert message in errors
    assert (project.path / "__ftcheck__" / "cpu.json").read_bytes() == before


def test_baselines_in_one_folder_are_found_by_the_option(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nftcheck_baseline_dir = all")
    write(Path(project.path) / "all", {"test_it.py::test_here": an_entry(), "test_it.py::test_gone": an_entry()})
    assert prune(project)[1][0].startswith("gone: test_it.py::test_gone in ")
    assert len(prune(project)[1]) == 2
