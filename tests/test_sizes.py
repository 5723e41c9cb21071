"""Sizes of memory as people write them."""

from __future__ import annotations

import pytest

from pytest_ftcheck.sizes import bytes_of


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512 MiB", 512 * 2**20), ("20GB", 20 * 10**9), ("1.5 tib", 3 * 2**39), (" 7kb ", 7000)],
)
def test_units_are_decimal_or_binary(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "1e3MB", "20 gigabytes", 20, None])
def test_what_is_no_size_is_none(text: object) -> None:
    assert bytes_of(text) is None
