"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from pytest_ftcheck.report.units import duration, operations, size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1024, "1.02 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (999_999, "1 MB"),
        (1_000_000, "1 MB"),
        (2_140_000, "2.14 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1 GB"),
        (2_140_000_000, "2.14 GB"),
        (139_000_000_000, "139 GB"),
        (999_499_999_999, "999 GB"),
        (999_999_999_999, "1,000 GB"),
        (1_234_567_000_000, "1,235 GB"),
    ],
)
def test_bytes_have_three_digits_and_a_decimal_unit(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.000_012_3, "0.0123 ms"),
        (0.012_34, "12.3 ms"),
        (0.999_4, "999 ms"),
        (0.999_5, "1 s"),
        (1.0, "1 s"),
        (12.34, "12.3 s"),
        (999.4, "999 s"),
        (999.6, "1,000 s"),
        (1234.5, "1,234 s"),
        (math.inf, "inf s"),
        (math.nan, "-"),
    ],
)
def test_a_duration_has_three_digits_in_milliseconds_or_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 FLOP"),
        (12_345, "12,345 FLOP"),
        (1_234_567, "1.23 MFLOP"),
        (387_946_000_000, "388 GFLOP"),
        (999_600_000_000, "1 TFLOP"),
        (123e12, "123 TFLOP"),
        (2.5e15, "2.5 PFLOP"),
        (1234e15, "1,234 PFLOP"),
    ],
)
def test_operations_have_three_digits_and_a_unit(count: float, text: str) -> None:
    assert operations(count) == text


@pytest.mark.parametrize("exponent", range(16))
@pytest.mark.parametrize("factor", [1, 9.994, 9.995, 9.996, 9.999_999])
def test_no_exponent_is_ever_shown(exponent: int, factor: float) -> None:
    assert "e" not in size(int(factor * 10**exponent))
    assert "e" not in duration(factor * 10 ** (exponent - 6))
    assert "e" not in operations(factor * 10**exponent)
