"""The bound is derived: right implementations keep it, and it is hardly larger than what they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_ftcheck.theory.tolerance import FACTOR, bound, unit_roundoff

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LAYERS, ROWS = 10, 25
# From a layer as small as those that are drawn to one of a model of a billion parameters: (inputs, outputs, rank).
SHAPES = ((3, 5, 2), (64, 64, 8), (2048, 32, 16))


def unmerged(x: Tensor, w: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    return x @ w.T + s * ((x @ a.T) @ b.T)


def scaled_first(x: Tensor, w: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    return x @ w.T + (s * x @ a.T) @ b.T


def scaled_factor(x: Tensor, w: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    return x @ w.T + (x @ a.T) @ (s * b).T


def merged(x: Tensor, w: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    return x @ (w + s * (b @ a)).T


ORDERS: tuple[Callable[..., Tensor], ...] = (unmerged, scaled_first, scaled_factor, merged)


def errors(order: Callable[..., Tensor], dtype: torch.dtype, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Errors as parts of the bound, for ROWS draws of an input; every element counts."""
    inputs, outputs, rank = shape
    source = torch.Generator().manual_seed(seed)
    sizes = ((ROWS, inputs), (outputs, inputs), (rank, inputs), (outputs, rank))
    drawn = [torch.randn(size, generator=source, dtype=torch.float64).to(dtype) for size in sizes]
    s = 16 / rank
    x, w, a, b = (one.double().abs() for one in drawn)
    magnitude = x @ w.T + s * ((x @ a.T) @ b.T)
    difference = np.asarray(order(*drawn, s).double(), np.longdouble) - exact_output(drawn, s)
    return torch.from_numpy(np.abs(difference).astype(np.float64)) / bound(magnitude, dtype)


def exact_output(drawn: list[Tensor], s: float) -> Any:
    """In the extended precision of the processor: 64 bits of mantissa, of which float64 has 53."""
    x, w, a, b = (np.asarray(one.double(), np.longdouble) for one in drawn)
    return x @ w.T + s * ((x @ a.T) @ b.T)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_right_implementation_exceeds_it_and_it_is_not_twenty_times_too_wide(dtype: torch.dtype) -> None:
    draws, largest = 0, 0.0
    for order in ORDERS:
        for shape in SHAPES:
            for seed in range(LAYERS):
                part = errors(order, dtype, shape, seed)
                draws, largest = draws + ROWS, max(largest, float(part.max()))
    assert draws * len(DTYPES) >= 10_000
    assert 1 / 20 < largest <= 1


def test_a_bound_that_is_twenty_times_smaller_is_exceeded() -> None:
    part = errors(unmerged, torch.float32, SHAPES[0], seed=0)
    assert bool((part > 1 / 20).any())
    assert FACTOR == 8


def off_by_one_percent(x: Tensor, w: Tensor, a: Tensor, b: Tensor, s: float) -> Tensor:
    return unmerged(x, w, a, b, 1.01 * s)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_update_that_is_off_by_one_percent_is_far_beyond_it(dtype: torch.dtype) -> None:
    assert float(errors(off_by_one_percent, dtype, SHAPES[1], seed=0).max()) > 100


def test_unit_roundoff_is_half_the_distance_from_one_to_the_next_number() -> None:
    assert [unit_roundoff(dtype) for dtype in DTYPES] == [2.0**-24, 2.0**-8, 2.0**-11, 2.0**-53]


def test_zero_is_off_by_a_subnormal_step_at_most() -> None:
    allowed = bound(torch.zeros(1), torch.float16, underflow=3.0)
    assert float(allowed) == FACTOR * 3 * 2.0**-24
