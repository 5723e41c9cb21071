"""Comparing releases, and what a probe needs of them."""

from __future__ import annotations

import pytest

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.stack import releases


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"transformers": "4.57.6", "peft": "0.9.0", "torch": "2.13.0+cpu"}
    monkeypatch.setattr(releases, "installed", found.get)


@pytest.mark.parametrize("need", ["transformers", "transformers>=4.57.6", "peft>=0.9", "peft<0.10", "torch>=2.13,peft"])
def test_a_need_that_is_met_passes(need: str) -> None:
    releases.require(need)


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        ("trl", "trl is not installed"),
        ("peft>=0.10", "about peft >= 0.10; installed is 0.9.0"),
        ("transformers<4.57.6", "installed is 4.57.6"),
        ("transformers,accelerate>=1", "accelerate is not installed|about accelerate"),
    ],
)
def test_a_need_that_is_not_met_is_not_applicable_with_the_reason(need: str, reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason):
        releases.require(need)
