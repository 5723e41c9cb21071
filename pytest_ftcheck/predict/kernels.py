"""Memory that kernels take for themselves while they run, which no tensor of the training shows."""

from __future__ import annotations

from typing import Any

from .gpu import Gpu


def inner_bytes(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], gpu: Gpu) -> int:
    """Bytes that the kernel of the operation ``name`` allocates and frees within itself on ``gpu``."""
    return 0
