"""An implementation that the package has an adapter for, and what it has not."""

from __future__ import annotations

import hypothesis

from pytest_ftcheck.lora.adapter import Adapter
from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.property import Property
from pytest_ftcheck.lora.trying import try_property

NETWORKS = {"attention", "model"}


def assert_held(id: str, adapter: Adapter, lacks: set[str], examples: int = 8) -> None:
    """The property holds, or is not applicable, never green, where it is about what the implementation ``lacks``."""
    settings = hypothesis.settings(chosen_profile(), max_examples=examples)
    verdict = try_property(property_called(id), adapter, settings=settings)
    expected = "passed" if _applies(property_called(id), lacks) else "not applicable"
    assert verdict.status == expected, verdict.lines()
    assert expected == "passed" or verdict.reason


def _applies(one: Property, lacks: set[str]) -> bool:
    return not {*one.needs, *one.features} & lacks and not set(one.kinds) <= lacks
