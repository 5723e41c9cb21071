"""The catalogue as a list and as the page ``docs/checks.md``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pretended import BROKEN, FULL_ONLY, NOWHERE, SOUND, pretend

from pytest_ftcheck.checks.catalogue import catalogue
from pytest_ftcheck.checks.check import Check, Sabotage
from pytest_ftcheck.checks.examples import Example
from pytest_ftcheck.report import catalogue as catalogue_report
from pytest_ftcheck.report.catalogue import listing, markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#{2,3} (.*)$", PAGE, re.MULTILINE)


def test_the_list_has_claims_methods_costs_and_controls_by_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SOUND, FULL_ONLY, BROKEN, NOWHERE)
    assert listing(["labels", "parameters"]) == [
        "2 checks; choose by id or theme: --ftcheck-checks=NAME,... or -k",
        "",
        "parameters",
        "  all-parameters-train: all parameters train",
        "      full, cost: reading",
        "",
        "labels",
        "  labels-are-right: labels are right",
        "      full and adapters, cost: reading, must notice renamed",
    ]


def test_the_page_is_that_of_the_catalogue() -> None:
    assert markdown() + "\n" == PAGE, "python -m pytest_ftcheck.report.catalogue > docs/checks.md"


def test_a_check_has_its_claim_its_controls_its_bugs_and_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example("renamed", "lora", ("3 of 4 labels are wrong", "  likely cause: | and * are themselves"))
    monkeypatch.setattr(catalogue_report, "examples", lambda: {BROKEN.id: example})
    renamed = Sabotage("renamed", "row_ids are *all* others", lambda recipe: recipe)
    links = ("https://github.com/huggingface/peft/pull/3318", "https://www.bugs.example/1")
    pretend(monkeypatch, Check(BROKEN.id, "labels", "input_ids are right", BROKEN.function, (renamed,), links))
    assert markdown().splitlines()[-13:] == [
        "### labels-are-right",
        "",
        "- **claim**: input\\_ids are right",
        "- **tried on**: full and adapters, cost: reading",
        "- **must notice**: `renamed` (row\\_ids are \\*all\\* others)",
        f"- **seen in**: [huggingface/peft#3318]({links[0]}), [bugs.example]({links[1]})",
        "",
        "With `renamed`, under LoRA:",
        "",
        "```text",
        "3 of 4 labels are wrong",
        "  likely cause: | and * are themselves",
        "```",
    ]


def test_every_theme_and_check_is_a_heading_of_its_own_that_the_index_links_to() -> None:
    named = {check.id for check in catalogue()} | {check.theme for check in catalogue()}
    assert sorted(HEADINGS) == sorted(named)
    assert sorted(re.findall(r"\(#(.*?)\)", PAGE)) == sorted(named)


def test_pages_link_to_checks_that_there_are() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    linked = {anchor for page in pages for anchor in re.findall(r"checks\.md#([\w-]+)", page.read_text("utf-8"))}
    assert "distributed" in linked
    assert linked <= set(HEADINGS)
