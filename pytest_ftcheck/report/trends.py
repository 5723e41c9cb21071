"""Metrics over commits, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..baseline.comparison import changed, number, shown_both
from ..history.series import Series
from ..history.trend import Trend, Turn, in_order

BLOCKS = "▁▂▃▄▅▆▇█"
# As wide as leaves room for the numbers beside it on a terminal of 100 columns.
WIDTH = 40
WORDS = {True: "worse", False: "better", None: "changed"}


def trend_lines(trends: Sequence[Trend]) -> Iterator[str]:
    """What got worse first, a picture and its change points, for each environment."""
    for environment in sorted({trend.series.environment for trend in trends}):
        several = [trend for trend in trends if trend.series.environment == environment]
        yield f"{environment}: {count(several)}"
        for trend in in_order(several):
            yield from _lines(trend)


def turn_text(series: Series, turn: Turn) -> str:
    """``worse: 301 MB -> 421 MB (+40 %) at 4f2a..., 2026-11-20 (after 91bc...)``."""
    before, after = turn.change.before, turn.change.after
    texts = " -> ".join(shown_both(before, after, series.unit))
    share = changed(before, after, series.unit)
    day = f"{turn.first.committed:%Y-%m-%d}"
    return f"{WORDS[turn.worse]}: {texts} ({share}) at {turn.first.commit}, {day} (after {turn.last.commit})"


def sparkline(values: Sequence[float]) -> str:
    """A picture of the values, oldest first, one block each, or one for each group of neighbours."""
    width = min(WIDTH, len(values))
    means = [_mean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    low, high = min(means), max(means)
    return "".join(BLOCKS[round((mean - low) / (high - low) * (len(BLOCKS) - 1))] for mean in means)


def _lines(trend: Trend) -> Iterator[str]:
    series = trend.series
    name, now = f"{series.metric} of {series.test}", number(series.values[-1], series.unit)
    if series.is_flat:
        yield f"  {name}: {now} in all {len(series.points)} runs"
        return
    yield f"  {name}"
    yield f"    {sparkline(series.values)} {now} ({len(series.points)} runs)"
    for turn in trend.turns:
        yield f"    {turn_text(series, turn)}"


def count(trends: Sequence[Trend]) -> str:
    """How many there are, and how many changed."""
    worse = sum(trend.worsened for trend in trends)
    changed_otherwise = sum(bool(trend.turns) for trend in trends) - worse
    return f"{len(trends)} metrics, {worse} got worse, {changed_otherwise} changed otherwise"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
