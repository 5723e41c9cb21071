"""What factors can hold."""

from __future__ import annotations

import pytest
import torch

from pytest_ftcheck.lora.state import CONTENTS, AdapterState

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def filled(state: AdapterState, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.full((2, 5), 9.0, dtype=dtype), torch.full((3, 2), 9.0, dtype=dtype)
    state.fill(a, b, dtype)
    return a, b


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("content", CONTENTS)
def test_every_content_is_finite_and_so_is_the_product(content: str, dtype: torch.dtype) -> None:
    a, b = filled(AdapterState(content), dtype)  # type: ignore[arg-type]
    assert a.isfinite().all()
    assert (b @ a).isfinite().all()
    assert a.all()


def test_the_seed_decides_the_numbers() -> None:
    assert torch.equal(filled(AdapterState(seed=1))[0], filled(AdapterState(seed=1))[0])
    assert not torch.equal(filled(AdapterState(seed=1))[0], filled(AdapterState(seed=2))[0])


def test_b_is_zero_where_it_is_said_and_only_there() -> None:
    assert not filled(AdapterState("zero B"))[1].any()
    negative = filled(AdapterState("negative zero"))[1]
    assert not negative.any()
    assert negative.signbit().all()
    assert all(filled(AdapterState(content))[1].all() for content in ("trained", "huge", "tiny"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_and_tiny_are_far_from_one(dtype: torch.dtype) -> None:
    assert filled(AdapterState("huge"), dtype)[0].abs().max() > 10
    assert filled(AdapterState("tiny"), dtype)[0].abs().max() < 0.1
