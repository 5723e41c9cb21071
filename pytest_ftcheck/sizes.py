"""Sizes of memory as people write them."""

from __future__ import annotations

import re

SIZE = r"(?i)(\d+(?:\.\d+)?)\s*([KMGT]i?)?B"
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def bytes_of(text: object) -> int | None:
    """The bytes that ``"20GB"`` or ``"512 MiB"`` stands for; None for what is no size."""
    match = re.fullmatch(SIZE, text.strip()) if isinstance(text, str) else None
    return int(float(match[1]) * UNITS[(match[2] or "").upper()]) if match else None
