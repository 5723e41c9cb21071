"""Figures of a page, as plotly draws them in the browser; colours are told apart by those who see fewer, too."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from .blocks import Bars, Curve, Curves, Group, Points

# Okabe and Ito's colours, those that stand out from white and from black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SYMBOLS = ("diamond", "circle", "square", "triangle-up", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
GRID, GREY = "rgba(128,128,128,0.25)", "rgb(128,128,128)"
# Letters of a bar's name.
NAME_WIDTH = 18
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 48}
# Text has the colour of the page, by its style sheet.
LAYOUT: dict[str, Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": MARGIN,
    "font": {"family": "system-ui, sans-serif", "size": 13},
    # Above the plot, which makes room for it: on a phone it has several lines.
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left", "traceorder": "normal"},
}


def of_curves(block: Curves) -> dict[str, Any]:
    """Mean curves over logarithmic axes, each in the band of its seeds, with a line at every mark."""
    traces: list[dict[str, Any]] = []
    for number, curve in enumerate(block.curves):
        traces += _traces(curve, COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)])
    logarithmic = all(
        value > 0 for curve in block.curves for value in (*curve.low, *curve.mean) if math.isfinite(value)
    )
    layout = {
        **LAYOUT,
        "height": 360,
        "xaxis": {"type": "log", "title": {"text": "update"}, "gridcolor": GRID, "zeroline": False},
        "yaxis": {"type": "log" if logarithmic else "linear", "title": {"text": "loss (nats)"}, "gridcolor": GRID},
        "shapes": [_line(step) for step, _ in block.marks],
        "annotations": [_label(step, text, place) for place, (step, text) in enumerate(block.marks)],
    }
    return {"data": traces, "layout": layout}


def _traces(curve: Curve, colour: str, dash: str) -> list[dict[str, Any]]:
    steps, mean = list(curve.steps), _finite(curve.mean)
    line = {
        "x": steps,
        "y": mean,
        "name": literal(curve.name),
        "mode": "lines+markers",
        "marker": {"size": 5, "color": colour},
    }
    shown = [{**line, "type": "scatter", "line": {"color": colour, "dash": dash, "width": 2}}]
    if list(curve.low) != list(curve.high):
        band = {
            "x": [*steps, *reversed(steps)],
            "y": [*_finite(curve.high), *reversed(_finite(curve.low))],
            "type": "scatter",
            "fill": "toself",
            "fillcolor": f"{colour}33",
            "line": {"width": 0},
            "mode": "lines",
            "hoverinfo": "skip",
            "showlegend": False,
        }
        shown.insert(0, band)
    return shown


def literal(name: str) -> str:
    """A name as it is: plotly takes some of what stands in angle brackets for markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _finite(values: Any) -> list[float | None]:
    """JSON has no NaN; a gap is what is drawn of one."""
    return [value if math.isfinite(value) else None for value in values]


def _line(step: int) -> dict[str, Any]:
    stroke = {"color": "rgba(128,128,128,0.8)", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "yref": "paper", "line": stroke}


def _label(step: int, text: str, place: int) -> dict[str, Any]:
    """Beside its line; labels of lines that are close do not lie on each other."""
    where = {"x": math.log10(step), "y": 1 - 0.08 * (place % 3), "yref": "paper", "xanchor": "right"}
    return {**where, "text": literal(text), "showarrow": False, "font": {"size": 11}}


def of_bars(block: Bars) -> dict[str, Any]:
    """A bar for each arm, one part after the other; what is predicted is hatched."""
    names = [_broken(name) for name in block.names]
    hatches = ["/" if predicted else "" for predicted in block.predicted]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": literal(name),
            "y": names,
            "x": list(sizes),
            "marker": {
                "color": COLOURS[number % len(COLOURS)],
                "pattern": {"shape": hatches, "fillmode": "replace", "solidity": 0.5},
            },
        }
        for number, (name, sizes) in enumerate(block.parts)
    ]
    layout = {
        **LAYOUT,
        "margin": {**MARGIN, "l": 8},
        "barmode": "stack",
        "height": 140 + 44 * len(block.names),
        "xaxis": {"title": {"text": "bytes"}, "gridcolor": GRID, "tickformat": ".3s"},
        "yaxis": {"autorange": "reversed", "automargin": True, "tickfont": {"size": 11}},
    }
    return {"data": traces, "layout": layout}


def _broken(name: str) -> str:
    """A long name on several lines: beside it there must be room for the bars, on a phone too."""
    return "<br>".join(literal(line) for line in textwrap.wrap(name, NAME_WIDTH) or [name])


def of_points(block: Points) -> dict[str, Any]:
    """Groups told apart by colour and shape, the marked one in a ring, and the line across; over logarithmic axes."""
    traces = [_group(group, number) for number, group in enumerate(block.groups)]
    every = [(x, y, name) for group in block.groups for x, y, name in zip(group.x, group.y, group.names, strict=True)]
    ends = [min(x for x, _, _ in every) / 1.5, max(x for x, _, _ in every) * 1.5]
    name, level = block.line
    if math.isfinite(level):
        line = {"color": GREY, "dash": "dash", "width": 2}
        traces.append(
            {"type": "scatter", "mode": "lines", "name": literal(name), "x": ends, "y": [level] * 2, "line": line}
        )
    ring = {"symbol": "circle-open", "size": 20, "color": GREY, "line": {"width": 2}}
    best = [(x, y) for x, y, name in every if name == block.marked][:1]
    traces += [
        {"type": "scatter", "mode": "markers", "name": "best", "x": [x], "y": [y], "marker": ring, "hoverinfo": "skip"}
        for x, y in best
    ]
    kind = "log" if all(y > 0 for _, y, _ in every) and not level <= 0 else "linear"
    layout = {
        **LAYOUT,
        "height": 440,
        "xaxis": {"type": "log", "title": {"text": "trainable parameters"}, "gridcolor": GRID, "zeroline": False},
        "yaxis": {"type": kind, "title": {"text": "loss (nats)"}, "gridcolor": GRID},
    }
    return {"data": traces, "layout": layout}


def _group(group: Group, number: int) -> dict[str, Any]:
    marker = {
        "symbol": SYMBOLS[number % len(SYMBOLS)],
        "size": 10,
        "color": COLOURS[number % len(COLOURS)],
    }
    points = {"x": list(group.x), "y": list(group.y), "text": [literal(name) for name in group.names]}
    return {"type": "scatter", "mode": "markers", "name": literal(group.name), "marker": marker, **points}
