"""docs/peft-findings.md is true: each example shows what it says, and the properties find each of them."""

from __future__ import annotations

import re
from pathlib import Path

import hypothesis
import pytest
from hypothesis import Phase

from pytest_ftcheck.lora.adapters.peft import PeftAdapter
from pytest_ftcheck.lora.adapters.peft_defects import DEFECTS, Defect
from pytest_ftcheck.lora.catalogue import all_properties, property_called
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.trying import try_property

PAGE = (Path(__file__).parents[2] / "docs" / "peft-findings.md").read_text(encoding="utf-8")
PREAMBLE, *EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# The property that finds it, and the kind of layer that has it.
FOUND_BY = {
    "dilation": ("output-is-base-plus-update", "convolution"),
    "conv3d-of-kernel-1": ("merged-weight", "convolution"),
    "dora-on-groups": ("dora-output", "convolution"),
    "olora-on-conv1d": ("olora-starts-as-the-base", "conv1d"),
    "attention-projects-twice": ("network-output", "attention"),
}


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_peft_is_wrong_as_the_page_says(example: str) -> None:
    exec(PREAMBLE + example, {})


def test_every_known_defect_is_on_the_page() -> None:
    assert {defect.id for defect in DEFECTS} <= set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    assert {defect.id for defect in DEFECTS} == set(FOUND_BY)


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.id for defect in DEFECTS])
def test_every_known_defect_is_found_when_it_is_tried_and_else_told(defect: Defect) -> None:
    id, kind = FOUND_BY[defect.id]
    settings = hypothesis.settings(chosen_profile(), phases=[Phase.generate], max_examples=100)
    told, tried = PeftAdapter(), PeftAdapter(known_defects=True)
    told.kinds = tried.kinds = (kind,)  # type: ignore[misc]
    verdict = try_property(property_called(id), told, settings=settings)
    assert not verdict.failed, verdict.lines()
    assert f"#{defect.id}" in verdict.reason
    assert try_property(property_called(id), tried, settings=settings).status == "failed"


@pytest.mark.parametrize("id", all_properties())
@pytest.mark.filterwarnings("ignore")
def test_every_property_holds_on_peft(id: str) -> None:
    # As many cases as users try, over many seeds: python -m lora.false_alarms.
    for adapter, examples in ((PeftAdapter(), 8), (PeftAdapter(autocast_adapter_dtype=False), 4)):
        settings = hypothesis.settings(chosen_profile(), max_examples=examples)
        verdict = try_property(property_called(id), adapter, settings=settings)
        assert verdict.status == "passed", verdict.lines()
