"""Numbers as people read them."""

from __future__ import annotations

import math

# From here on, three significant digits round up to the next unit: 999.5 kB would be written 1e+03 kB.
ROUNDS_UP = 0.9995


def size(size_bytes: float) -> str:
    """Bytes in decimal units, as GPU memory is quoted: ``"2.14 GB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= ROUNDS_UP * factor:
            return f"{_three_digits(size_bytes / factor)} {unit}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, or milliseconds below one second."""
    if math.isnan(seconds):
        return "-"
    return f"{_three_digits(seconds)} s" if seconds >= ROUNDS_UP else f"{_three_digits(seconds * 1e3)} ms"


def operations(count: float) -> str:
    """Floating-point operations: ``"1.29 TFLOP"``."""
    for unit, factor in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if count >= ROUNDS_UP * factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:,.0f} FLOP"


def _three_digits(value: float) -> str:
    """Three significant digits, or all before the decimal point, and never an exponent for a large number."""
    return f"{value:.3g}" if value < 1000 * ROUNDS_UP else f"{value:,.0f}"
