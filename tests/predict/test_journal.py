"""The last note can be read by another process, whatever became of the one that made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ftcheck.predict.journal import SIZE, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_the_last_note_is_read_through_another_mapping(path: Path) -> None:
    writer, reader = Journal(path), Journal(path)
    assert reader.read() == ""
    writer.note("aten::mm in h.0 (forward)")
    writer.note("aten::add in h")
    assert reader.read() == "aten::add in h"


def test_a_note_that_is_too_long_is_cut_between_letters_or_replaced(path: Path) -> None:
    journal = Journal(path)
    journal.note("ε" * SIZE)
    assert journal.read().rstrip("\ufffd") == "ε" * ((SIZE - 1) // 2)
    journal.note("short")
    assert journal.read() == "short"


def test_no_text_breaks_it(path: Path) -> None:
    journal = Journal(path)
    for text in ("", "a\0b", "\udcff"):
        journal.note(text)
    assert journal.read() == "?"


def test_the_file_outlives_the_mapping(path: Path) -> None:
    journal = Journal(path)
    journal.note("kept")
    journal.close()
    assert Journal(path).read() == "kept"
