"""How likely it is that rows drawn at random look like what was seen: so that chance is not called a mistake."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

# A finding that rests on draws may be chance once in this many audits.
ONCE_IN = 1e6


@functools.lru_cache(maxsize=64)
def distinct_in(draws: int, rows: int) -> tuple[float, ...]:
    """The probability of k different rows, for k from 0, when each of ``draws`` draws takes any of ``rows`` rows."""
    chances = [1.0]
    for _ in range(draws):
        grown = [0.0] * (len(chances) + 1)
        for k, chance in enumerate(chances):
            grown[k] += chance * k / rows
            grown[k + 1] += chance * max(rows - k, 0) / rows
        chances = grown
    return tuple(chances)


def chance_of_so_few_repeats(repeats: int, blocks: Sequence[int], rows: int) -> float:
    """The probability of at most ``repeats`` repeated rows, in all, within blocks of so many independent draws."""
    total = [1.0]
    for draws in blocks:
        chances = distinct_in(draws, rows)
        # A block of d draws with k different rows repeats d - k.
        repeated = [chances[draws - r] for r in range(min(repeats, draws) + 1)]
        total = _sum_of(total, repeated, repeats)
    return sum(total)


def _sum_of(one: Sequence[float], other: Sequence[float], most: int) -> list[float]:
    """The distribution of the sum of two counts, up to ``most``."""
    added = [0.0] * min(most + 1, len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other[: len(added) - i]):
            added[i + j] += a * b
    return added


def chance_of_so_few_distinct(distinct: int, draws: int, rows: int) -> float:
    """The probability of at most ``distinct`` different rows in ``draws`` draws from ``rows``."""
    return sum(distinct_in(draws, rows)[: distinct + 1])


def ways(rows: int, drawn: int) -> float:
    """In how many orders ``drawn`` of ``rows`` rows can come."""
    return math.exp(min(math.lgamma(rows + 1) - math.lgamma(rows - drawn + 1), 700.0))


def at_least(count: int, expected: float) -> float:
    """The probability of ``count`` or more independent rare events where ``expected`` are expected (Poisson), bounded
    from above by Chernoff.
    """
    if count <= expected:
        return 1.0
    return math.exp(-expected + count - count * math.log(count / expected)) if expected > 0 else 0.0


def at_least_of(count: int, tries: int, chance: float) -> float:
    """The probability of ``count`` or more successes in ``tries`` independent tries (binomial)."""
    terms = (math.comb(tries, k) * chance**k * (1 - chance) ** (tries - k) for k in range(count, tries + 1))
    return math.fsum(terms)
