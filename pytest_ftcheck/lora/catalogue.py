"""Every property, in the order in which they are tried."""

from __future__ import annotations

import importlib
import pkgutil

from ..errors import RecipeError
from . import properties
from .property import Property, registered


def all_properties() -> dict[str, Property]:
    """By id. Imports every module of ``properties``."""
    for module in pkgutil.iter_modules(properties.__path__):
        importlib.import_module(f"{properties.__name__}.{module.name}")
    return dict(registered())


def property_called(id: str) -> Property:
    """Raises RecipeError for an id that there is not, with those that there are."""
    known = all_properties()
    if id not in known:
        raise RecipeError(f"there is no property {id!r}; allowed: {', '.join(sorted(known))}")
    return known[id]
