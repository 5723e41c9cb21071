"""What is kept as the example failures of checks; tests/checks/test_controls.py compares them with today's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from pretended import BROKEN, FINDING, SOUND, pretend

from pytest_ftcheck.checks import examples as module
from pytest_ftcheck.checks.check import Check, Finding
from pytest_ftcheck.checks.examples import Example, examples, main, write
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.committed import CommittedFile

OLD = Example("renamed", "lora", ("2 of 4 labels are wrong",))


@pytest.fixture(autouse=True)
def _own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "FILE", CommittedFile(tmp_path / "examples.json"))
    pretend(monkeypatch, SOUND, BROKEN)


def example(*lines: str) -> Example:
    return Example("renamed", "lora", lines)


def test_the_example_is_the_first_finding_of_the_first_control() -> None:
    main([])
    assert examples() == {check.id: Example("renamed", "lora", tuple(FINDING.lines())) for check in (SOUND, BROKEN)}


def test_named_checks_alone_are_tried_and_examples_of_checks_that_are_gone_are_left_out() -> None:
    write({SOUND.id: OLD, BROKEN.id: OLD, "gone": OLD})
    main([BROKEN.id])
    assert examples().keys() == {SOUND.id, BROKEN.id}
    assert examples()[SOUND.id] == OLD != examples()[BROKEN.id]


def test_an_unknown_check_is_refused_in_a_line_and_nothing_is_written() -> None:
    with pytest.raises(SystemExit, match=r"^no check or theme 'lables'; allowed, for example: labels"):
        main(["lables"])
    assert examples() == {}


def test_a_check_that_does_not_notice_its_control_makes_no_example(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = Check("deaf", "labels", "it hears", lambda evidence: [], SOUND.controls)
    pretend(monkeypatch, deaf)
    with pytest.raises(SystemExit, match=r"^deaf finds nothing in its control renamed: passed"):
        main([])


def test_measured_numbers_may_differ_and_counted_ones_and_words_may_not() -> None:
    one = example("3 of 4 losses differ by 0.0816 (at most 6.6e-06)")
    assert one.masked() == example("3 of 4 losses differ by 0.0817 (at most 7e-06)").masked()
    assert one.masked() != example("2 of 4 losses differ by 0.0816 (at most 6.6e-06)").masked()
    assert one.masked() != example("3 of 4 losses vary by 0.0816 (at most 6.6e-06)").masked()
    assert one.masked() != Example("other", "lora", one.lines).masked()


def test_an_example_is_the_same_wherever_temporary_files_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    finding = Finding(f"0 costs are in {tmp_path}/costs.json", "", "")
    verdict = Verdict("c", "memory", "lora", "", "failed", (finding,))
    assert Example.of("renamed", verdict).lines[0] == "0 costs are in /tmp/costs.json"
