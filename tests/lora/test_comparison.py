"""Numbers are held to what they must be, element by element."""

from __future__ import annotations

import torch

from pytest_ftcheck.lora.comparison import off, unequal
from pytest_ftcheck.lora.layer_case import Exact

MUST = Exact(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.full((2, 2), 0.1).double())


def test_what_is_within_its_bound_is_right() -> None:
    assert off("y", MUST.value + 0.0999, MUST) is None


def test_the_element_that_is_furthest_beyond_its_bound_is_told() -> None:
    observed = MUST.value + torch.tensor([[0.2, 0.0], [0.0, -0.5]])
    assert off("y", observed, MUST) == "y[1, 1] is 3.5, must be 4 within 0.1; 2 of 4 elements are off"


def test_nan_is_always_wrong_also_where_it_is_expected() -> None:
    observed = MUST.value.clone()
    observed[0, 1] = torch.nan
    assert str(off("y", observed, MUST)).startswith("y[0, 1] is nan, must be 2 within 0.1")
    assert off("y", observed, Exact(observed, MUST.bound)) is not None
    assert unequal("y", observed, observed) is not None


def test_infinity_is_wrong_where_a_number_is_expected() -> None:
    assert "is inf" in str(off("y", MUST.value * torch.inf, MUST))


def test_another_shape_is_wrong_even_where_it_broadcasts() -> None:
    assert off("y", MUST.value[:1], MUST) == "y has shape (1, 2), must have (2, 2)"


def test_equal_means_equal_bits_but_for_the_sign_of_zero() -> None:
    zero = torch.zeros(2)
    assert unequal("y", -zero, zero) is None
    assert unequal("y", zero + 1e-45, zero) is not None
