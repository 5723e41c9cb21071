"""Every property is in the catalogue, with all that a reader needs."""

from __future__ import annotations

import pkgutil

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.lora import properties
from pytest_ftcheck.lora.adapter import FEATURES, Adapter
from pytest_ftcheck.lora.catalogue import THEMES, all_properties, property_called
from pytest_ftcheck.lora.property import LAYERS, NETWORKS


def test_every_module_of_properties_is_a_theme() -> None:
    assert sorted(THEMES) == sorted(module.name for module in pkgutil.iter_modules(properties.__path__))


@pytest.mark.parametrize("id", all_properties())
def test_every_property_says_what_holds_where_that_is_from_and_what_is_usually_wrong(id: str) -> None:
    one = property_called(id)
    assert id == id.lower().replace(" ", "-")
    assert one.source.startswith("https://")
    assert all(text and text == text.strip() for text in (one.claim, one.formula, one.cause))
    assert set(one.kinds) <= {*LAYERS, *NETWORKS}
    assert set(one.features) <= set(FEATURES)
    assert all(hasattr(Adapter, need) for need in one.needs)


def test_an_unknown_id_is_told_with_those_that_there_are() -> None:
    with pytest.raises(RecipeError, match=r"there is no property 'merged'; allowed: .*merged-output"):
        property_called("merged")
