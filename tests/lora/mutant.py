"""A wrong implementation of LoRA, and who must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_ftcheck.lora.adapter import Adapter

from .reference import ReferenceAdapter


@dataclass(frozen=True)
class Mutant:
    """``layer`` is ``ReferenceLayer``, or ``ReferenceNetwork``, with one mistake. ``by`` are the ids of the properties
    that must each notice it. ``adapter`` is the type of adapter for it, where that is not the usual one.
    """

    layer: type[Any]
    mistake: str
    by: tuple[str, ...]
    adapter: Callable[[type[Any]], Adapter] = ReferenceAdapter

    @property
    def name(self) -> str:
        return self.layer.__name__

    def adapted(self) -> Adapter:
        return self.adapter(self.layer)
