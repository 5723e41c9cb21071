"""The line about runs that are not shared."""

from __future__ import annotations

import json

import pytest

from pytest_ftcheck.report.sharing import unshared_line

UNKNOWN = "train_data, the content of a builtins.map"
BEGINS = "not shared between workers and sessions; what cannot be told:"
FULL, LORA = ["a, full, seed 0", UNKNOWN], ["a, lora, seed 0", "train, the source of 'f'"]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ([FULL], f"1 run is {BEGINS} {UNKNOWN}"),
        # Two workers tell of the same run.
        ([FULL, FULL, LORA], f"2 runs are {BEGINS} {UNKNOWN}; train, the source of 'f'"),
    ],
)
def test_each_run_and_each_reason_counts_once(told: list[list[str]], line: str) -> None:
    assert unshared_line([json.dumps(one) for one in told]) == line
