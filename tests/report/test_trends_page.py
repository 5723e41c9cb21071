"""Metrics over commits, as a page."""

from __future__ import annotations

import html.parser
import json
import re
import sys

import pytest
from history.measured import a_trend

from pytest_ftcheck.errors import HistoryError
from pytest_ftcheck.report.trends_page import page


class Outline(html.parser.HTMLParser):
    """What stands in headings and list items, and what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in = tag if tag in ("h1", "h2", "h3", "li", "p", "span") else None
        self.fetched += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._in and data.strip():
            self.found.append((self._in, " ".join(data.split())))
            self._in = None


def test_what_got_worse_is_first_and_what_changes_has_a_figure() -> None:
    grown = a_trend([301e6] * 5 + [421e6] * 5)
    steady = a_trend([0.25] * 10, metric="lora/time.step_s", unit="s")
    text = page([steady, grown], ["0001_x.json was not read: ValueError"], "History of here", "made today")
    outline = Outline(text)
    assert outline.found == [
        ("h1", "History of here"),
        ("p", "0001_x.json was not read: ValueError"),
        ("h2", "cpu: 2 metrics, 1 got worse, 0 changed otherwise"),
        ("h3", "lora/memory.peak_bytes"),
        ("span", "of test_it.py::test_it[lora], now 421 MB, 10 runs"),
        ("li", "worse: 301 MB -> 421 MB (+39.9 %) at 000000000005, 2026-11-06 (after 000000000004)"),
        ("h3", "lora/time.step_s"),
        ("span", "of test_it.py::test_it[lora], now 250 ms, 10 runs"),
    ]
    assert outline.fetched == []  # it needs no network
    assert re.findall(r'id="(figure-cpu-\d)"', text) == ["figure-cpu-0"]
    assert json.dumps("421 MB<br>000000000009<br>2026-11-10 12:00 UTC")[1:-1] in text.replace(r"\u003c", "<").replace(
        r"\u003e", ">"
    )


def test_names_are_text_and_never_markup() -> None:
    text = page([a_trend([1.0] * 10, test="test_it[<script>alert(1)</script>]")], [], "<b>", "")
    assert "<script>alert" not in text
    assert "<h1>&lt;b&gt;</h1>" in text


@pytest.mark.parametrize("missing", ["jinja2", "plotly.offline"])
def test_without_its_libraries_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(HistoryError, match=rf"a page needs {missing}.* pip install 'pytest-ftcheck\[report\]'"):
        page([], [], "", "")
