"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[str]:
    """Lines of names, flush left, with each column's cells, flush right; two blanks before each column."""
    widths = [max(map(len, column)) for column in columns]
    first = max(map(len, names))
    return [
        "  ".join(["", name.ljust(first), *(c[i].rjust(w) for c, w in zip(columns, widths, strict=True))]).rstrip()
        for i, name in enumerate(names)
    ]
