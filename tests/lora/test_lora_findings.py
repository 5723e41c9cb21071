"""docs/lora-findings.md is true: each example shows what it says, and the properties find what it says they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import Phase

from pytest_ftcheck import lora
from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.trying import try_property

PAGE = (Path(__file__).parents[2] / "docs" / "lora-findings.md").read_text(encoding="utf-8")
SECTIONS = {section.split("\n", 1)[0]: section for section in PAGE.split("\n## ")[1:]}
# The adapter that tries it, the property that finds it, and the kind of layer that has it.
FOUND_BY: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "loralib-merged": ("LoralibAdapter", {"merge_weights": True}, "follows-its-factors", "linear"),
    "loralib-dropout": ("LoralibAdapter", {"known_defects": True}, "dropout-drops-and-scales", "convolution"),
    "loralib-bias": ("LoralibAdapter", {"known_defects": True}, "trains-the-closed-form", "convolution"),
    "litgpt-bias": ("LitgptAdapter", {"known_defects": True}, "trains-the-closed-form", "linear"),
    "torchtune-dora": ("TorchtuneAdapter", {"known_defects": True}, "dora-output", "linear"),
}
# What no property can meet: the layers cannot be made, or be used by themselves.
ONLY_SHOWN = {"loralib-kernels", "loralib-modes"}


def _library(id: str) -> None:
    pytest.importorskip(id.partition("-")[0], reason=f"{id.partition('-')[0]} is not installed: tox -e implementations")


@pytest.mark.parametrize("id", SECTIONS)
@pytest.mark.filterwarnings("ignore")
def test_the_library_is_wrong_as_the_page_says(id: str) -> None:
    _library(id)
    (example,) = re.findall(r"```python\n(.*?)```", SECTIONS[id], re.DOTALL)
    exec(example, {})


def test_every_finding_is_found_or_only_shown() -> None:
    assert set(SECTIONS) == {*FOUND_BY, *ONLY_SHOWN}
    for id, (_, _, property, _) in FOUND_BY.items():
        assert f"Found by `{property}`" in SECTIONS[id]


@pytest.mark.parametrize("id", FOUND_BY)
@pytest.mark.filterwarnings("ignore")
def test_every_finding_is_found_when_it_is_tried_and_else_told(id: str) -> None:
    _library(id)
    name, options, property, kind = FOUND_BY[id]
    settings = hypothesis.settings(chosen_profile(), phases=[Phase.generate], max_examples=100)
    told, tried = getattr(lora, name)(), getattr(lora, name)(**options)
    told.kinds = tried.kinds = (kind,)
    assert try_property(property_called(property), tried, settings=settings).status == "failed"
    verdict = try_property(property_called(property), told, settings=settings)
    assert not verdict.failed, verdict.lines()
    # loralib's own default and its dropout are settings that the adapter does not use.
    assert f"docs/lora-findings.md#{id}" in verdict.reason or id in ("loralib-merged", "loralib-dropout")
