"""How the size of an adapter depends on its rank, so that a size that is seen can be read as a rank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..codec import Record


@dataclass(frozen=True)
class Growth(Record):
    """Parameters of an adapter of rank r, from ``start`` on: ``constant`` + ``linear`` · r + ``quadratic`` · r²."""

    constant: int = 0
    linear: int = 0
    quadratic: int = 0
    start: int = 0

    @property
    def is_flat(self) -> bool:
        """Whether the rank changes nothing."""
        return not self.linear and not self.quadratic

    def at(self, rank: int) -> int:
        return self.constant + self.linear * rank + self.quadratic * rank * rank

    def rank_for(self, size: int) -> int | None:
        """The rank that gives ``size``; None where no whole one does. Where the rank changes nothing, ``start``."""
        if self.is_flat:
            rank = self.start
        elif not self.quadratic:
            rank = (size - self.constant) // self.linear
        else:
            square = self.linear**2 + 4 * self.quadratic * (size - self.constant)
            rank = (math.isqrt(max(square, 0)) - self.linear) // (2 * self.quadratic)
        return rank if self.at(rank) == size else None


def piece_at(growth: Sequence[Growth], rank: int) -> Growth:
    """Of pieces in the order of their ``start``, the first at 0, the one that holds at ``rank``."""
    return next(piece for piece in reversed(growth) if piece.start <= rank)


def rank_for(growth: Sequence[Growth], size: int) -> tuple[int, bool] | None:
    """The least rank of at least 1 that gives ``size``, and whether every higher one gives it too; None for no rank."""
    for piece, following in itertools.zip_longest(growth, growth[1:]):
        rank = piece.rank_for(size)
        if rank is not None and rank >= max(piece.start, 1) and (following is None or rank < following.start):
            return rank, piece.is_flat
    return None


def summed(pieces: Iterable[Growth]) -> Growth:
    """The growth of several adapters of one rank together; each in one piece."""
    pieces = list(pieces)
    return Growth(sum(p.constant for p in pieces), sum(p.linear for p in pieces), sum(p.quadratic for p in pieces))
