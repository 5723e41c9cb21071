"""A size is read as the rank that gives it, and as none where none does."""

from __future__ import annotations

import pytest

from pytest_ftcheck.theory.growth import Growth, piece_at, rank_for, summed

LINEAR, QUADRATIC, FLAT = Growth(5, 3), Growth(1, 4, 2), Growth(7)
PIECES = (Growth(linear=10), Growth(36, start=4))


@pytest.mark.parametrize("growth", [LINEAR, QUADRATIC], ids=["linear", "quadratic"])
def test_each_size_has_the_rank_it_was_made_of(growth: Growth) -> None:
    sizes = {growth.at(rank): rank for rank in range(1, 200)}
    assert [rank_for([growth], size) for size in range(max(sizes))] == [
        (sizes[size], False) if size in sizes else None for size in range(max(sizes))
    ]


def test_sizes_of_an_adapter_without_a_rank_are_its_own_alone() -> None:
    assert rank_for([FLAT], 8) is None
    assert rank_for([], 8) is None


def test_pieces_hold_from_their_start_on() -> None:
    assert [piece_at(PIECES, rank).at(rank) for rank in range(1, 7)] == [10, 20, 30, 36, 36, 36]
    assert [rank_for(PIECES, size) for size in (30, 36, 40, 50)] == [(3, False), (4, True), None, None]


def test_adapters_of_one_rank_grow_together() -> None:
    total = summed([LINEAR, QUADRATIC, FLAT])
    assert [total.at(rank) for rank in (1, 5)] == [LINEAR.at(r) + QUADRATIC.at(r) + 7 for r in (1, 5)]
