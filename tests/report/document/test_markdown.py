"""The report as Markdown."""

from __future__ import annotations

import pytest

from pytest_ftcheck.report.document.blocks import Bars, Block, Curve, Curves, Heading, Lines, Table
from pytest_ftcheck.report.document.markdown import markdown


def of(*blocks: Block) -> list[str]:
    return markdown(blocks, "t", "f")[2:-2]


def test_blocks_are_what_markdown_has_for_them() -> None:
    assert of(Heading("a", 3)) == ["### a"]
    assert of(Lines(["a", "b"], tone="bad")) == ["**a**", "", "**b**"]
    assert of(Lines(["  a", "b"], code=True)) == ["```text", "  a", "b", "```"]
    assert of(Table("c", ["", "x"], [["a", "1"]])) == ["c:", "", "|  | x |", "| --- | --: |", "| a | 1 |"]


@pytest.mark.parametrize("name", ["<script>", "a|b", "*a*", "a_b_", "`a`", "[a](b)", "# a", "a\\", "&lt;"])
def test_names_are_text_and_never_markup(name: str) -> None:
    (row,) = of(Table("c", ["", "x"], [[name, "1"]]))[-1:]
    bare = row.removeprefix("| ").removesuffix(" | 1 |").replace("&lt;", "<").replace("&amp;", "&")
    assert "<" not in row
    assert all(bare[i - 1] == "\\" for i, mark in enumerate(bare) if mark in "|*_`[]#")


def test_code_may_hold_fences() -> None:
    assert of(Lines(["````"], code=True)) == ["`````text", "````", "`````"]


def test_curves_are_a_chart_of_the_steps_that_all_have() -> None:
    full = Curve("full", [1, 10, 100], [3.0, 2.0, 1.0], [], [])
    lora = Curve("LoRA", [1, 100], [3.5, 0.5], [], [])
    assert of(Curves("Loss", [full, lora], [], "It falls.")) == [
        "```mermaid",
        "xychart-beta",
        "  x-axis update [1, 100]",
        '  y-axis "loss (nats)"',
        "  line [3.000000, 1.000000]",
        "  line [3.500000, 0.500000]",
        "```",
        "",
        "Lines in their order: full, LoRA. It falls.",
    ]


def test_curves_that_are_not_finite_are_words() -> None:
    assert of(Curves("Loss", [Curve("full", [1], [float("nan")], [], [])], [], "It is nan.")) == ["It is nan."]


def test_bars_are_a_table() -> None:
    told = of(Bars("Memory", ["full", "LoRA"], [("weights", [400, 5000])], "So much."))
    assert told[2:] == ["|  | full | LoRA |", "| --- | --: | --: |", "| weights | 400 B | 5 kB |", "", "So much."]


def test_a_folded_table_opens_when_it_is_asked_for() -> None:
    told = of(Table("c", ["", "x"], [["a", "1"]], folded=True))
    assert told == [
        "<details><summary>c: 1</summary>",
        "",
        "c:",
        "",
        "|  | x |",
        "| --- | --: |",
        "| a | 1 |",
        "",
        "</details>",
    ]
