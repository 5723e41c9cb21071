"""Two trainings compared, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..comparison.comparison import Comparison

COLOURS = {"passed": {"green": True}, "failed": {"red": True}, "unstable": {"yellow": True}}


def write_comparisons(reporter: Any, texts: Sequence[str]) -> None:
    """Write what each comparison (in JSON) found, in the colour of its verdict."""
    reporter.write_sep("=", "ftcheck: cost and step time compared")
    for comparison in map(Comparison.from_json, dict.fromkeys(texts)):
        reporter.write_line(f"{comparison.recipe}: {comparison.verdict}", **COLOURS[comparison.verdict])
        for line in comparison.lines():
            reporter.write_line(f"  {line}")
