"""Tables of plain text."""

from __future__ import annotations

from pytest_ftcheck.report.table import table


def test_names_are_flush_left_and_cells_flush_right() -> None:
    assert table(["", "peak", "a longer name"], [["full", "1", "22"], ["LoRA r=8", "333", ""]]) == [
        "                 full  LoRA r=8",
        "  peak              1       333",
        "  a longer name    22",
    ]
