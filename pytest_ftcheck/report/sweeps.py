"""Settings of an adapter that were tried, at the end of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..sweeping.sweep import Sweep


def write_sweeps(reporter: Any, texts: Sequence[str]) -> None:
    """Write a table for each sweep (in JSON), and what it comes to."""
    reporter.write_sep("=", "ftcheck: other settings of LoRA")
    for found in map(Sweep.from_json, dict.fromkeys(texts)):
        reporter.write_line(f"{found.recipe}: {found.steps} steps")
        for line in found.lines():
            reporter.write_line(line)
