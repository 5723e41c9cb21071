"""docs/tutorial.md, followed by its own code alone, in a repository that has no test of ours."""

from __future__ import annotations

import io
import re
import shutil
import tokenize
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
PYTHON, TEXT, SHELL = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "text", "sh"))
CONFTEST, BEFORE, AFTER, TESTS = PYTHON
PASSES, FAILS = TEXT
AUDIT, OWN = (command.split()[1:] for command in SHELL[1:])


@pytest.fixture
def newcomer(pytester: pytest.Pytester, repos: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Their modules, and what step 2 adds to them."""
    monkeypatch.syspath_prepend(str(pytester.path))
    for name in ("trainer_data.py", "trainer_finetune.py"):
        shutil.copy(repos / "hf_trainer" / name, pytester.path)
    (pytester.path / "conftest.py").write_text(CONFTEST)
    return pytester


def test_it_takes_at_most_ten_lines_of_ones_own() -> None:
    """Of code, as Python counts them: however an argument list is broken."""
    tokens = tokenize.generate_tokens(io.StringIO(CONFTEST).readline)
    assert sum(token.type == tokenize.NEWLINE for token in tokens) <= 10


def test_what_is_sound_passes_and_the_planted_bug_fails_as_the_page_shows(newcomer: pytest.Pytester) -> None:
    sound = newcomer.runpytest_inprocess(*AUDIT, "-p", "no:cacheprovider")
    assert sound.ret == pytest.ExitCode.OK
    assert [line for line in PASSES.splitlines() if line not in sound.outlines] == []
    code = newcomer.path / "trainer_finetune.py"
    assert code.read_text().count(BEFORE) == 1
    code.write_text(code.read_text().replace(BEFORE, AFTER))
    broken = newcomer.runpytest_inprocess(*AUDIT, "-p", "no:cacheprovider")
    assert broken.ret == pytest.ExitCode.TESTS_FAILED
    assert FAILS in "\n".join(broken.outlines)


def test_the_tests_of_ones_own_pass_but_for_the_baseline_that_is_not_there_yet(newcomer: pytest.Pytester) -> None:
    (newcomer.path / "test_finetuning.py").write_text(TESTS)
    result = newcomer.runpytest_inprocess(*OWN, "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["NO BASELINE test_finetuning.py::test_nothing_that_is_measured_has_changed*"])
    result.stdout.fnmatch_lines(["ftcheck: 3 executed: 2 passed, 1 no baseline"])
    assert any("--ftcheck-update" in line for line in result.outlines), "the command that accepts what is seen"
