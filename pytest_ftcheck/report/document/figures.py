"""Figures of a page, as plotly draws them in the browser; colours are told apart by those who see fewer, too."""

from __future__ import annotations

import math
from typing import Any

from .blocks import Bars, Curve, Curves

# Okabe and Ito's colours, those that stand out from white and from black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("solid", "dash", "dot", "dashdot")
GRID = "rgba(128,128,128,0.25)"
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 48}
# Text has the colour of the page, by its style sheet.
LAYOUT: dict[str, Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": MARGIN,
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "legend": {"orientation": "h", "y": 1.12},
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
    line = {"x": steps, "y": mean, "name": curve.name, "mode": "lines+markers", "marker": {"size": 5, "color": colour}}
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


def _finite(values: Any) -> list[float | None]:
    """JSON has no NaN; a gap is what is drawn of one."""
    return [value if math.isfinite(value) else None for value in values]


def _line(step: int) -> dict[str, Any]:
    stroke = {"color": "rgba(128,128,128,0.8)", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "yref": "paper", "line": stroke}


def _label(step: int, text: str, place: int) -> dict[str, Any]:
    """Beside its line; labels of lines that are close do not lie on each other."""
    where = {"x": math.log10(step), "y": 1 - 0.08 * (place % 3), "yref": "paper", "xanchor": "right"}
    return {**where, "text": text, "showarrow": False, "font": {"size": 11}}


def of_bars(block: Bars) -> dict[str, Any]:
    """A bar for each arm, one part after the other."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(block.names),
            "x": list(sizes),
            "marker": {"color": COLOURS[number % len(COLOURS)]},
        }
        for number, (name, sizes) in enumerate(block.parts)
    ]
    layout = {
        **LAYOUT,
        "margin": {**MARGIN, "l": 120},
        "barmode": "stack",
        "height": 120 + 48 * len(block.names),
        "xaxis": {"title": {"text": "bytes"}, "gridcolor": GRID, "tickformat": ".3s"},
        "yaxis": {"autorange": "reversed"},
    }
    return {"data": traces, "layout": layout}
