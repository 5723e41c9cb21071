"""What a property is: one thing that is true of LoRA, and how to see whether it is true of an implementation.

A property's function looks at one case at a time and yields what it finds wrong; nothing found means that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from .adapter import Adapter

# The kinds of layers that are linear maps of their input.
LAYERS = ("linear", "conv1d", "embedding", "convolution", "experts")
NETWORKS = ("attention", "model")


class Case(Protocol):
    """What is drawn for a property: it says of itself what it is."""

    def subject(self, adapter: Adapter) -> Any:
        """What the property's function is given."""


@dataclass(frozen=True)
class Deviation:
    """One thing that is wrong: one line, numbers first; and what brought it about, where the numbers tell."""

    summary: str
    cause: str = ""


Cases = Callable[[str, "Adapter"], "SearchStrategy[Any]"]


@dataclass(frozen=True)
class Property:
    """``formula`` is what must hold, ``source`` where that is from. ``needs`` are methods of the adapter and
    ``features`` settings that it must obey. ``cases`` draws for a kind of layer. ``cause`` is the usual mistake.
    """

    id: str
    claim: str
    formula: str
    source: str
    cause: str
    function: Callable[[Any], Iterator[Deviation]]
    cases: Cases
    needs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = LAYERS
    features: tuple[str, ...] = ()


_REGISTERED: dict[str, Property] = {}


def lora_property(
    id: str,
    claim: str,
    *,
    formula: str,
    source: str,
    cause: str,
    cases: Cases,
    needs: tuple[str, ...] = (),
    kinds: tuple[str, ...] = LAYERS,
    features: tuple[str, ...] = (),
) -> Callable[[Callable[[Any], Iterator[Deviation]]], Callable[[Any], Iterator[Deviation]]]:
    """Register the decorated function as the property called ``id``."""

    def register(function: Callable[[Any], Iterator[Deviation]]) -> Callable[[Any], Iterator[Deviation]]:
        known = _REGISTERED.get(id)
        assert known is None or known.function.__module__ == function.__module__, f"two properties are called {id}"
        _REGISTERED[id] = Property(id, claim, formula, source, cause, function, cases, needs, kinds, features)
        return function

    return register


def registered() -> dict[str, Property]:
    """Every property whose module has been imported, by id; ``all_properties()`` imports them all."""
    return _REGISTERED
