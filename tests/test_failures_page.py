"""docs/failures.md quotes what the plugin says: each message is provoked, and compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from situations import SITUATIONS

PAGE = (Path(__file__).parents[1] / "docs" / "failures.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, str] = dict(SECTION.findall(PAGE))


def quoted(heading: str) -> list[str]:
    """The lines of the message under a heading. ``...`` is what is left out, within a line or of lines."""
    (block,) = re.findall(r"```text\n(.*?)```", SECTIONS[heading], re.DOTALL)
    return [line for line in block.splitlines() if line not in ("", "...")]


def missing(lines: list[str], said: str) -> list[str]:
    """Those of ``lines`` that do not stand in ``said``, one after the other."""
    found, place = [], 0
    for line in lines:
        pattern = ".*".join(map(re.escape, line.strip().split("...")))
        match = re.compile(rf"^.*{pattern}", re.MULTILINE).search(said, place)
        found += [] if match else [line]
        place = match.end() if match else place
    return found


def test_every_message_is_provoked() -> None:
    assert list(SECTIONS) == list(SITUATIONS)


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_plugin_says_what_the_page_quotes(
    heading: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = SITUATIONS[heading](pytester, monkeypatch)
    assert quoted(heading)
    assert missing(quoted(heading), said) == [], said


def test_a_message_that_is_said_otherwise_is_noticed() -> None:
    assert missing(["loss is nan in update 3 of ..."], "full: loss is nan in update 3 of 6 (...)") == []
    assert missing(["loss was nan in update 3"], "full: loss is nan in update 3 of 6") == ["loss was nan in update 3"]
    assert missing(["second", "first"], "first\nsecond") == ["first"], "in another order"


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_section_says_what_to_do(heading: str) -> None:
    after = SECTIONS[heading].rpartition("```")[2]
    assert len(after.split()) > 15
