"""pytest-ftcheck: regression tests for fine-tuning code.

The public names are imported when they are first used (PEP 562): pytest imports this package at every start.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks.examination import check_training
    from .choosing.stakes import Stakes
    from .methods import Full, LoRA, Peft
    from .observers import observe
    from .pair import Pair
    from .parametrize import parametrize_with_checks
    from .recipe import Job, Recipe
    from .run import Run

__version__ = "0.1.0"

_HOMES = {
    "Full": "methods",
    "LoRA": "methods",
    "Peft": "methods",
    "Recipe": "recipe",
    "Job": "recipe",
    "Run": "run",
    "Pair": "pair",
    "Stakes": "choosing.stakes",
    "observe": "observers.observation",
    "check_training": "checks.examination",
    "parametrize_with_checks": "parametrize",
}

__all__ = [
    "Full",
    "Job",
    "LoRA",
    "Pair",
    "Peft",
    "Recipe",
    "Run",
    "Stakes",
    "check_training",
    "observe",
    "parametrize_with_checks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
