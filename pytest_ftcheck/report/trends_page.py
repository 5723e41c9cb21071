"""Metrics over commits, as one HTML file that needs nothing else: no network, no files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..baseline.comparison import number
from ..errors import HistoryError
from ..history.series import Series
from ..history.trend import Trend, in_order
from .trends import WORDS, count, turn_text

HEIGHT = 200
COLOURS = {True: "#b3261e", False: "#1a7f37", None: "#59636e"}
# Without buttons, and as wide as the page.
CONFIG = {"displayModeBar": False, "responsive": True}


def page(trends: Sequence[Trend], problems: Sequence[str], title: str, footer: str) -> str:
    """The HTML. Raises HistoryError where what it is made with is not installed."""
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        what = f"a page needs {error.name}, which is not installed"
        raise HistoryError(f"{what}: pip install 'pytest-ftcheck[report]'") from None
    environment = jinja2.Environment(loader=jinja2.PackageLoader("pytest_ftcheck", "report"), autoescape=True)
    names = sorted({trend.series.environment for trend in trends})
    groups = [_group(name, [trend for trend in trends if trend.series.environment == name]) for name in names]
    return environment.get_template("trends.html.j2").render(
        title=title,
        script=f"<script>{get_plotlyjs()}</script>",
        problems=problems,
        environments=groups,
        footer=footer,
    )


def _group(name: str, trends: Sequence[Trend]) -> dict[str, Any]:
    shown = [_shown(trend, f"{name}-{index}") for index, trend in enumerate(in_order(trends))]
    return {"name": name, "count": count(trends), "trends": shown}


def _shown(trend: Trend, anchor: str) -> dict[str, Any]:
    series = trend.series
    return {
        "anchor": anchor,
        "metric": series.metric,
        "test": series.test,
        "now": number(series.values[-1], series.unit),
        "runs": len(series.points),
        "turns": [{"word": WORDS[turn.worse], "text": turn_text(series, turn)} for turn in trend.turns],
        "figure": "" if series.is_flat else _figure(trend, f"figure-{anchor}"),
    }


def _figure(trend: Trend, id: str) -> str:
    """A point for each run, in order (commits are not evenly made, and a plot over time would hide most of them)."""
    import plotly.graph_objects as plots

    series = trend.series
    figure = plots.Figure(
        plots.Scatter(
            y=series.values,
            mode="lines+markers",
            line={"color": "#9aa4ae", "width": 1},
            marker={"color": "#0b57d0", "size": 5},
            text=[_hover(series, index) for index in range(len(series.points))],
            hoverinfo="text",
        )
    )
    for turn in trend.turns:
        figure.add_vline(x=turn.change.index - 0.5, line={"color": COLOURS[turn.worse], "width": 2, "dash": "dot"})
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 70, "r": 10, "t": 10, "b": 30},
        plot_bgcolor="white",
        xaxis={"title": None, "showgrid": False, "range": [-0.5, len(series.points) - 0.5]},
        yaxis={"title": series.unit or None, "gridcolor": "#e6e9ed", "zeroline": False},
    )
    found: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=id, config=CONFIG)
    return found


def _hover(series: Series, index: int) -> str:
    point = series.points[index]
    dirty = ", uncommitted changes" if point.dirty else ""
    return f"{number(point.value, series.unit)}<br>{point.commit}{dirty}<br>{point.committed:%Y-%m-%d %H:%M} UTC"
