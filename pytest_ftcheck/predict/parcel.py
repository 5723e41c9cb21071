"""Sending a request to a fresh interpreter.

What the other side can import is sent by name. What it cannot (a conftest of pytest's ``importlib`` mode, one of
several modules of one name, ``__main__``) is sent as it is, by cloudpickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from ..content import is_installed
from ..errors import PredictionError
from ..failures import one_line
from ..recipe import Recipe


class OfRecipe(Protocol):
    """A request about a recipe."""

    @property
    def recipe(self) -> Recipe: ...


def packed(request: OfRecipe) -> bytes:
    """The request as bytes. Raises PredictionError that names the part of the recipe which cannot be sent."""
    with _by_value(list(_out_of_reach())):
        try:
            return _dumps(request)
        except Exception as error:
            raise _cannot_be_sent(request.recipe, error) from error


def unpacked(parcel: bytes) -> Any:
    """The request in a parcel; only ever one that this process's own parent has sent. Raises PredictionError."""
    try:
        return pickle.loads(parcel)
    except Exception as error:
        raise PredictionError(
            f"the recipe cannot be rebuilt in a fresh interpreter: {one_line(error)}\n"
            "  what to do: keep what it is made of in modules that can be imported, and its data on the CPU"
        ) from error


def _dumps(value: Any) -> bytes:
    # Here and below: a fork needs no parcel, and so does not need the package.
    import cloudpickle

    parcel = cloudpickle.dumps(value)
    assert isinstance(parcel, bytes)
    return parcel


def _cannot_be_sent(recipe: Recipe, error: Exception) -> PredictionError:
    part, reason = "the recipe", error
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        try:
            _dumps(value)
        except Exception as own:
            part, reason = f"Recipe.{field.name} ({type(value).__name__})", own
            break
    return PredictionError(
        f"{part} cannot be sent to a fresh interpreter: {one_line(reason)}\n"
        "  what to do: create such an object (an open file, a lock, a generator) within the function that needs it"
    )


@contextlib.contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    """Send what these modules define as it is, not by name."""
    import cloudpickle

    ours = [module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in ours:
            cloudpickle.unregister_pickle_by_value(module)


def _out_of_reach() -> Iterator[ModuleType]:
    """The user's modules that a fresh interpreter would not import, by their name, from the file they came from."""
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or name != module.__name__ or name == "__main__":
            continue
        file = vars(module).get("__file__")
        if isinstance(file, str) and not is_installed(Path(file).resolve()):
            found = _file_of(name)
            if found is None or os.path.realpath(found) != os.path.realpath(file):
                yield module


def _file_of(name: str) -> str | None:
    """The file that a fresh interpreter with our ``sys.path`` would import the module from."""
    places, found = None, None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        found = _spec(".".join(parts[:depth]), places)
        places = getattr(found, "submodule_search_locations", None)
        if found is None or (places is None and depth < len(parts)):
            return None
    return getattr(found, "origin", None)


def _spec(name: str, places: Any) -> Any:
    """What the import system would find, whatever has been imported already."""
    for finder in sys.meta_path:
        found = finder.find_spec(name, places)
        if found is not None:
            return found
    return None
