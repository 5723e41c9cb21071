"""The coordinator's side: answers, and what is said of a process that gives none."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from errands import ends_within, written

from pytest_ftcheck.comparison.contestant import Contestant, python
from pytest_ftcheck.errors import ComparisonError

ECHO = "import json\nfor line in sys.stdin: print(json.dumps({'seconds': [json.loads(line)['updates']]}), flush=True)"


def contestant(code: str, folder: Path, limit_s: float = 60.0) -> Contestant:
    return Contestant("main", python(f"exec({code!r})"), folder, folder, limit_s=limit_s)


def test_a_turn_is_asked_for_and_answered(tmp_path: Path) -> None:
    with contestant(ECHO, tmp_path) as one:
        assert one.turn(3) == (3,)
        one.ask(updates=1)
        one.ask(updates=2)
        assert [one.answer()["seconds"], one.answer()["seconds"]] == [[1], [2]]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('print(\'{"error": "no such method"}\', flush=True); sys.stdin.read()', "main: no such method"),
        ("print('a', file=sys.stderr); sys.exit(3)", r"main: its process ended \(3\): a"),
        ("print('E  bad\\nand so on', file=sys.stderr); sys.exit(4)", r"main: its process ended \(4\): bad"),
        ("sys.exit(0)", r"main: its process ended \(0\): it printed nothing"),
        ("import os; os.abort()", r"main: its process ended \(-6\): it printed nothing"),
    ],
)
def test_no_answer_is_an_error_that_says_why(tmp_path: Path, code: str, text: str) -> None:
    with contestant(code, tmp_path) as one, pytest.raises(ComparisonError, match=text):
        one.turn(1)


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with contestant("import time; time.sleep(600)", tmp_path, limit_s=0.5) as one:
        start = time.monotonic()
        with pytest.raises(ComparisonError, match=r"no answer after 0.5 s, and it was ended \(--ftcheck-time-limit\)"):
            one.answer()
        assert time.monotonic() - start < 60


def test_it_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(600)"
    )
    with contestant(code, tmp_path):
        while len(written(pids).split()) < 2:
            time.sleep(0.02)
    assert all(ends_within(10, int(pid)) for pid in written(pids).split())


def test_its_temporary_files_are_in_its_scratch_folder(tmp_path: Path) -> None:
    code = "import tempfile, json; print(json.dumps({'where': tempfile.mkdtemp()}), flush=True); sys.stdin.read()"
    with contestant(code, tmp_path) as one:
        assert Path(one.answer()["where"]).parent == tmp_path


def test_this_package_measures_also_where_another_would_be_found(tmp_path: Path) -> None:
    import pytest_ftcheck

    (tmp_path / "pytest_ftcheck").mkdir()
    (tmp_path / "pytest_ftcheck" / "__init__.py").write_text("")
    (tmp_path / "mine.py").write_text("NAME = 'mine'")
    code = "import json, pytest_ftcheck, mine; print(json.dumps({'file': pytest_ftcheck.__file__, 'mine': mine.NAME}))"
    with Contestant("main", python(code, search=[str(tmp_path), *sys.path]), tmp_path, tmp_path) as one:
        assert one.answer() == {"file": pytest_ftcheck.__file__, "mine": "mine"}
