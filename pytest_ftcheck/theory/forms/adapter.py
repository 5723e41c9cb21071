"""What a method puts on one module, and the walk over the modules that it adapts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import RecipeError
from ..growth import Growth, piece_at
from ..layers import Layer, layer_of
from ..targets import targeted_modules

if TYPE_CHECKING:
    from torch import nn

    from ..placement import Adapting


@dataclass(frozen=True)
class Adapter:
    """An adapter of rank ``rank`` (0: the method has none), which grows with it as ``growth`` says.

    ``frozen`` of its parameters never train. ``note`` says in words what it is.
    """

    note: str
    rank: int
    growth: tuple[Growth, ...]
    frozen: int = 0

    @property
    def size(self) -> int:
        """All its parameters."""
        return piece_at(self.growth, self.rank).at(self.rank)


def on_each(
    model: nn.Module, config: Adapting, kinds: Collection[str], adapter: Callable[[str, Layer], Adapter]
) -> dict[str, Adapter]:
    """Name of each targeted module of ``model`` -> ``adapter(name, layer)``.

    Raises RecipeError for a module that is none of ``kinds``, the kinds of layer that the method can adapt.
    """
    found = {}
    for name in targeted_modules(model, config):
        module = model.get_submodule(name)
        layer = layer_of(module)
        if layer is None or layer.kind not in kinds:
            method = type(config).__name__.removesuffix("Config")
            raise RecipeError(f"{method} cannot adapt {name}, a {type(module).__name__}; allowed: {', '.join(kinds)}")
        found[name] = adapter(name, layer)
    return found
