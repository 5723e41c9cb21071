"""The report as a page: one file, names as text, figures with words and numbers beside them."""

from __future__ import annotations

import html.parser
import json
import re
import sys
import time
from typing import Any

import pytest

from pytest_ftcheck.errors import ReportError
from pytest_ftcheck.report.document.blocks import Bars, Block, Curve, Curves, Heading, Lines, Table
from pytest_ftcheck.report.document.figures import NAME_WIDTH
from pytest_ftcheck.report.document.html import page

EVIL = "<script>alert(1)</script>"
CURVE = Curve("full", [1, 10, 100], [3.0, 2.0, 1.0], [2.9, 1.9, 0.9], [3.1, 2.1, 1.1])
CURVES = Curves(
    "Loss", [CURVE, Curve(EVIL, [1, 10], [3.0, float("nan")], [3.0, 1.0], [3.0, 2.0])], [(30, EVIL)], "It falls."
)
BARS = Bars(
    "Memory", ["full", EVIL], [("weights", [400, 500]), ("optimizer", [800, 200])], "Weights and more.", [False, True]
)
# As plotly shows it: some of what stands in angle brackets is markup to it.
SHOWN = EVIL.replace("<", "&lt;")
BLOCKS: list[Block] = [
    Heading(f"a recipe {EVIL}"),
    Lines([f"a line {EVIL}"], tone="bad"),
    Lines([f"code {EVIL}", "  indented"], code=True),
    Table(f"a table {EVIL}", ["", EVIL], [[EVIL, "1"]]),
    CURVES,
    BARS,
    Heading("second"),
    Heading("third"),
]


class Outline(html.parser.HTMLParser):
    """The elements of a page, with their attributes; and what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return page(BLOCKS, f"title {EVIL}", f"footer {EVIL}")


def figures(text: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in re.findall(r'data-figure="b\d+">(.*?)</script>', text)]


def test_names_are_text_and_never_markup(text: str) -> None:
    assert EVIL not in text
    # The data of two figures, the library and the one that draws.
    assert len(Outline(text).of("script")) == 4
    assert figures(text)[0]["data"][-1]["name"] == SHOWN
    assert [name.replace("<br>", "") for name in figures(text)[1]["data"][0]["y"]] == ["full", SHOWN]


def test_it_needs_no_network_and_no_file(text: str) -> None:
    outline = Outline(text)
    links = [value for _, attributes in outline.elements for name in ("src", "href") if (value := attributes.get(name))]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_every_figure_has_words_and_numbers_and_every_table_headers(text: str) -> None:
    outline = Outline(text)
    plots = [one for one in outline.of("div") if one.get("role") == "img"]
    assert [one["aria-label"] for one in plots] == ["It falls.", "Weights and more."]
    assert len(outline.of("details")) == 2
    assert len(outline.of("caption")) == len(outline.of("table")) == 3
    assert all(one.get("scope") in ("row", "col") for one in outline.of("th"))
    assert outline.of("html") == [{"lang": "en"}]


def test_headings_are_linked_from_the_contents(text: str) -> None:
    outline = Outline(text)
    anchors = [f"#{one['id']}" for one in outline.of("h2")]
    assert [one["href"] for one in outline.of("a")] == anchors
    assert len(outline.of("h1")) == 1


def test_curves_have_logarithmic_axes_bands_and_marks(text: str) -> None:
    curves, bars = figures(text)
    assert (curves["layout"]["xaxis"]["type"], curves["layout"]["yaxis"]["type"]) == ("log", "log")
    band, line, *_ = curves["data"]
    assert band["y"] == [3.1, 2.1, 1.1, 0.9, 1.9, 2.9]
    assert line["y"] == [3.0, 2.0, 1.0]
    assert curves["data"][-1]["y"] == [3.0, None], "what is not finite is a gap"
    assert [shape["x0"] for shape in curves["layout"]["shapes"]] == [30]
    assert [(bar["name"], bar["x"]) for bar in bars["data"]] == [("weights", [400, 500]), ("optimizer", [800, 200])]
    assert all(bar["marker"]["pattern"]["shape"] == ["", "/"] for bar in bars["data"]), "what is predicted is hatched"


def test_a_bar_s_long_name_leaves_room_for_it_on_a_phone() -> None:
    long = Bars("Memory", ["LoRA r=8, predicted for NVIDIA H100"], [("weights", [1])], "")
    (name,) = figures(page([long], "", ""))[0]["data"][0]["y"]
    assert max(map(len, name.split("<br>"))) <= NAME_WIDTH


def test_a_folded_table_opens_when_it_is_asked_for() -> None:
    outline = Outline(page([Table("What passed", ["", "x"], [["a", "1"], ["b", "2"]], folded=True)], "", ""))
    assert len(outline.of("details")) == len(outline.of("summary")) == len(outline.of("table")) == 1


def test_losses_that_reach_zero_have_a_linear_axis() -> None:
    zero = Curves("Loss", [Curve("full", [1, 2], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0])], [], "It falls.")
    assert figures(page([zero], "", ""))[0]["layout"]["yaxis"]["type"] == "linear"


def test_a_page_without_figures_has_no_library() -> None:
    assert len(page(BLOCKS[:2], "", "")) < 20_000


def test_a_page_of_twenty_runs_has_less_than_six_megabytes() -> None:
    start = time.process_time()
    text = page([CURVES, BARS] * 10, "", "")
    assert len(text.encode()) < 6e6
    assert time.process_time() - start < 3


@pytest.mark.parametrize("missing", ["jinja2", "plotly.offline"])
def test_without_its_libraries_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ReportError, match=rf"an HTML report needs {missing}.* pip install 'pytest-ftcheck\[report\]'"):
        page([], "", "")
