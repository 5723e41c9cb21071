"""The rules by which what is seen becomes what is declared; that each refuses, in a session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from repositories import commit_all

from pytest_ftcheck.acceptance import Acceptance, refusal
from pytest_ftcheck.errors import AcceptanceError
from pytest_ftcheck.options import Settings

WAYS = pytest.mark.parametrize(
    "flag", ["--ftcheck-update", "--ftcheck-update-new-only", "--ftcheck-calibrate=5"], ids=lambda flag: flag[10:]
)


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    pytester.makepyfile(train="lr = 1")
    commit_all(pytester.path)
    return pytester.path


@WAYS
def test_nothing_is_accepted_without_a_reason(pytester: pytest.Pytester, flag: str) -> None:
    result = pytester.runpytest_inprocess(flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = flag.partition("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: {name} without --ftcheck-reason=TEXT: say why what is declared changes"])


@pytest.mark.parametrize(("value", "ret"), [("true", 4), ("1", 4), ("woodpecker", 4), ("", 5), ("false", 5)])
def test_nothing_is_accepted_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, ret: int
) -> None:
    monkeypatch.setenv("CI", value)
    result = pytester.runpytest_inprocess("--ftcheck-update", "--ftcheck-reason=why")
    assert result.ret == ret
    if ret == pytest.ExitCode.USAGE_ERROR:
        result.stderr.fnmatch_lines(["ERROR: --ftcheck-update in CI (environment variable CI): *"])


@WAYS
def test_nothing_is_accepted_from_files_that_are_not_committed(
    pytester: pytest.Pytester, repository: Path, flag: str
) -> None:
    assert pytester.runpytest_inprocess(flag, "--ftcheck-reason=why").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    (repository / "train.py").write_text("lr = 2")
    result = pytester.runpytest_inprocess(flag, "--ftcheck-reason=why")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: {flag.partition('=')[0]} with files that are not committed (train.py): commit them, *"]
    )
    assert pytester.runpytest_inprocess().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_first_files_are_named_and_the_others_counted(repository: Path) -> None:
    for number in range(5):
        (repository / f"new{number}.py").write_text("")
    why = refusal(Settings(update=True, reason="why"), repository)
    assert why is not None
    assert "(new0.py, new1.py, new2.py and 2 more)" in why


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ({"environment": "cpu", "format": 1, "tests": {}}, False),
        ({"mine": {"lora": {"reason": "why", "cost": {}}}}, False),
        ({"mine": {"lora": {"r": 8}}}, True),
        ({}, True),
        ([1], True),
    ],
)
def test_what_was_accepted_before_need_not_be_committed_before_more_is(
    repository: Path, content: object, refused: bool
) -> None:
    (repository / "accepted.json").write_text('{"other": 1}')
    commit_all(repository)
    (repository / "accepted.json").write_text(json.dumps(content))
    assert (refusal(Settings(update=True, reason="why"), repository) is not None) == refused


def test_a_session_that_accepts_nothing_asks_nothing(repository: Path) -> None:
    (repository / "train.py").write_text("lr = 2")
    assert refusal(Settings(), repository) is None


def test_what_is_the_same_again_is_confirmed_as_often_as_asked() -> None:
    values = iter([2, 2, 2, 2])
    leave = Acceptance("why", print, repeats=5)
    assert leave.confirmed("it", 2, lambda: next(values), lambda a, b: ()) == [2] * 5


def test_what_is_not_the_same_again_is_not_accepted() -> None:
    leave = Acceptance("why", print)
    with pytest.raises(AcceptanceError, match="not accepted: the sum, done again, is not the same: 1 is not 2"):
        leave.confirmed("the sum", 1, lambda: 2, lambda a, b: [] if a == b else [f"{a} is not {b}"])
