"""All checks, and choosing among them. Importing this imports no torch: they are listed in any session."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Sequence

from ..errors import RecipeError
from .check import THEMES, Check, Sabotage, registered

# Each module of checks, in the order in which their checks run: what others rest on comes first.
MODULES = (
    *(
        "conduct",
        "parameters",
        "reach",
        "movement",
        "ties",
        "dtypes",
        "start",
        "loaded_adapter",
        "resizing",
        "optimizer",
        "gradients",
        "batch_size",
        "clipping",
        "groups",
        "updates",
        "rounding",
        "learning_rate",
        "schedule",
        "warm_up",
        "labels",
        "prompts",
        "endings",
        "packing",
        "loss",
        "reports",
        "padding",
        "logits",
        "future",
        "data",
        "data_rows",
        "masks",
        "positions",
        "evaluated_rows",
        "mode",
        "generators",
    ),
    *("equivalence", "neighbours", "transformations", "repetition", "resume", "checkpoints"),
    *("adapter", "adapter_settings", "adapter_layers", "several", "combining", "merging", "merged_weights"),
    *(
        "saving",
        "saved_files",
        "file_size",
        "saved_settings",
        "loading",
        "auto_classes",
        "memory",
        "static_memory",
        "cost",
        "learning",
    ),
    *("distributed", "distributed_saving"),
)


@functools.cache
def catalogue() -> tuple[Check, ...]:
    """Every check, in the same order in every process."""
    for name in MODULES:
        importlib.import_module(f".{name}", __package__)
    order = {theme: index for index, theme in enumerate(THEMES)}
    by_module = {f"{__package__}.{name}": index for index, name in enumerate(MODULES)}
    found = sorted(registered().values(), key=lambda c: (by_module[c.function.__module__], order[c.theme]))
    return tuple(found)


def chosen(select: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks whose id or theme is in ``select`` (empty: all). Raises RecipeError for a name that is neither."""
    known = catalogue()
    names = {check.id for check in known} | {check.theme for check in known}
    for name in select:
        if name not in names:
            import difflib

            close = difflib.get_close_matches(name, sorted(names), n=3) or sorted({c.theme for c in known})
            raise RecipeError(f"no check or theme {name!r}; allowed, for example: {', '.join(close)}")
    return tuple(c for c in known if not select or c.id in select or c.theme in select)


def sabotages(checks: Iterable[Check] | None = None) -> tuple[Sabotage, ...]:
    """Every way of breaking a recipe that the catalogue knows, once each."""
    found = {control.id: control for c in (catalogue() if checks is None else checks) for control in c.controls}
    return tuple(found.values())
