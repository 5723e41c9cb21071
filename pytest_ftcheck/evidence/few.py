"""The few rows of an audit: real rows of the user's data, in whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def few_rows(rows: Any, batch_size: int, accumulation: int) -> Any:
    """The first rows of a data set: enough for three updates an epoch, of which the last has a single short batch.

    What is no data set of rows (a stream without a length, a loader of batches, columns by name), or has fewer, comes
    back as it is.
    """
    if isinstance(rows, Mapping) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        return rows
    window = batch_size * accumulation
    return first(rows, 2 * window + (batch_size // 2 or 1))


def first(rows: Any, count: int) -> Any:
    """The first ``count`` of ``rows``; fewer come back as they are."""
    if len(rows) <= count:
        return rows
    if hasattr(rows, "select"):
        return rows.select(range(count))
    return rows[:count] if isinstance(rows, (list, tuple)) else FirstRows(rows, count)


class FirstRows(Sequence[Any]):
    """The first rows of a data set, which otherwise behaves as itself."""

    def __init__(self, rows: Any, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._rows[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._rows[index % self._count]

    def __getattr__(self, name: str) -> Any:
        # Copies and pickles ask for attributes before there are rows to ask.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._rows, name)


def alike(rows: Any, count: int) -> Any:
    """``count`` times the first row, in what holds rows; what is no data set of rows comes back as it is."""
    if isinstance(rows, Mapping) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        return rows
    if hasattr(rows, "select"):
        return rows.select([0] * count)
    return [rows[0]] * count
