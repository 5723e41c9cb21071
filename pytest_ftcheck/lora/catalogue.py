"""Every property, in the order in which they are tried."""

from __future__ import annotations

import importlib

from ..errors import RecipeError
from .property import Property, registered

# The modules of ``properties``, from what is told most easily to what needs most.
THEMES = (
    *("output", "scaling", "initialisations", "linearity", "gradients", "dropout", "modules"),
    *("deltas", "merging", "switching", "saving", "slope", "splitting", "dora", "networks"),
)


def all_properties() -> dict[str, Property]:
    """By id. Imports every module of ``properties``."""
    for theme in THEMES:
        importlib.import_module(f".properties.{theme}", __package__)
    # A module that was imported before by somebody else does not come first for that.
    ordered = sorted(registered().values(), key=lambda one: THEMES.index(one.function.__module__.rpartition(".")[2]))
    return {one.id: one for one in ordered}


def property_called(id: str) -> Property:
    """Raises RecipeError for an id that there is not, with those that there are."""
    known = all_properties()
    if id not in known:
        raise RecipeError(f"there is no property {id!r}; allowed: {', '.join(sorted(known))}")
    return known[id]
