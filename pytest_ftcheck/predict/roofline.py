"""How long an operation takes at least: its arithmetic at the GPU's peak, or its memory traffic at full bandwidth."""

from __future__ import annotations

from typing import Any

from .gpu import Gpu


def seconds(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, gpu: Gpu) -> float:
    """The roofline (Williams, Waterman & Patterson 2009, doi:10.1145/1498765.1498785) of one operation, in seconds."""
    return 0.0
