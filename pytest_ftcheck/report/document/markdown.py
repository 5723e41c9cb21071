"""A report as Markdown, which GitHub shows with charts of the curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .blocks import Block, Curve, Curves, Heading, Lines, Points, Table
from .html import table_of_bars

TONES = {"": "", "good": "", "bad": "**", "warning": "_"}


def markdown(blocks: Sequence[Block], title: str, footer: str) -> list[str]:
    """The lines of it."""
    lines = [f"# {escaped(title)}", ""]
    for block in blocks:
        lines += [*_of(block), ""]
    return [*lines, escaped(footer)]


def _of(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return [f"{'#' * block.level} {escaped(block.text)}"]
    if isinstance(block, Lines):
        return _lines(block)
    if isinstance(block, Table) and block.folded:
        summary = f"<details><summary>{escaped(block.caption)}: {len(block.rows)}</summary>"
        return [summary, "", *_table(block), "", "</details>"]
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Curves):
        return _chart(block)
    if isinstance(block, Points):
        # No chart of mermaid's has points on two logarithmic axes; the table that follows has them.
        return [escaped(block.told)]
    return [*_table(table_of_bars(block)), "", escaped(block.told)]


def _lines(block: Lines) -> list[str]:
    if block.code:
        # A fence that is longer than any in the text.
        longest = max((len(line) - len(line.lstrip("`")) for line in block.lines), default=0)
        fence = "`" * max(3, longest + 1)
        return [f"{fence}text", *block.lines, fence]
    mark = TONES[block.tone]
    found: list[str] = []
    for line in block.lines:
        found += [f"{mark}{escaped(line)}{mark}", ""]
    return found[:-1]


def _table(block: Table) -> list[str]:
    rules = ["---" if number < block.texts else "--:" for number in range(len(block.head))]
    rows = [block.head, rules, *block.rows]
    shown = [row if row is rules else [escaped(cell) for cell in row] for row in rows]
    return [f"{escaped(block.caption)}:", "", *(f"| {' | '.join(row)} |" for row in shown)]


def _chart(block: Curves) -> list[str]:
    """Steps as categories: a mermaid chart has no logarithmic axis, and evaluations lie evenly on one."""
    drawn = [curve for curve in block.curves if curve.steps and all(map(math.isfinite, curve.mean))]
    shared = [step for step in drawn[0].steps if all(step in curve.steps for curve in drawn)] if drawn else []
    if not shared:
        return [escaped(block.told)]
    names = ", ".join(escaped(curve.name) for curve in drawn)
    return [
        "```mermaid",
        "xychart-beta",
        f"  x-axis update [{', '.join(map(str, shared))}]",
        '  y-axis "loss (nats)"',
        *(f"  line [{', '.join(_at(curve, step) for step in shared)}]" for curve in drawn),
        "```",
        "",
        f"Lines in their order: {names}. {escaped(block.told)}",
    ]


def _at(curve: Curve, step: int) -> str:
    return f"{curve.mean[list(curve.steps).index(step)]:.6f}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
