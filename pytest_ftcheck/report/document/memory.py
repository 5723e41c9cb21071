"""Memory in a report: what was measured at the peak of an update, with what was predicted of it beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ...baseline.comparison import changed
from ...predict.forecast import Forecast
from ...run import Breakdown, Memory, Run
from ..terminal import Arm
from ..units import size
from .blocks import Bars, Block, Heading, Lines

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "temporaries")
# Of one arm, and of what no run was made of.
BESIDE, OTHERS = 3, 40


def memory(arms: Sequence[Arm], heads: Sequence[str], forecasts: Sequence[Forecast]) -> Bars:
    """A bar for each arm, and below it one for each prediction of it: the comparable one first."""
    bars, told = _Bars(), []
    for head, arm in zip(heads, arms, strict=True):
        run = arm[0]
        bars.add(head, run.memory.at_peak)
        said = [_beside(bars, head, one, run) for one in _related(forecasts, run)[:BESIDE]] or ["not predicted"]
        told.append(f"{head}: {'; '.join([_peak(run.memory), *said])}.")
    return bars.block("Live bytes at the peak of an update", " ".join(told))


def _related(forecasts: Sequence[Forecast], run: Run) -> list[Forecast]:
    """The predictions of what ``run`` was, the comparable one first; what failed counts where nothing else is there."""
    found = [one for one in forecasts if one.is_of(run) and not one.rows]
    found.sort(key=lambda one: len(one.differs_from(run)))
    made = [one for one in found if one.memory]
    return made if any(not one.differs_from(run) for one in made) else found


def _beside(bars: _Bars, head: str, forecast: Forecast, run: Run) -> str:
    """Draw a prediction below the bar of ``run``, and say how it compares."""
    if forecast.memory is None:
        return f"not predicted: {forecast.failed}"
    reasons = forecast.differs_from(run)
    what = " ".join(["predicted", *reasons])
    bars.add(f"{head}, {what}", forecast.memory.at_peak, predicted=True)
    if reasons:
        return f"{what}: {_peak(forecast.memory)} (not comparable)"
    return f"predicted {_peak(forecast.memory)}, {_difference(forecast, run.memory)}"


def _difference(forecast: Forecast, measured: Memory) -> str:
    """By how much what was measured is above or below what was predicted of it."""
    assert forecast.memory is not None
    if measured.source == "allocator":
        expected, seen, what = forecast.allocated_bytes, measured.peak_bytes, "the allocator's peak is"
        aside = f" ({size(seen)}, predicted {size(expected)})"
    else:
        expected, seen, what, aside = forecast.memory.peak_bytes, measured.peak_bytes, "measured is", ""
    if seen == expected:
        return f"{what} the same to the byte{aside}"
    return f"{what} {changed(float(expected), float(seen), 'bytes')}{aside}"


def _peak(memory: Memory) -> str:
    return f"{size(memory.at_peak.total)} in {memory.peak_phase}"


def others(forecasts: Sequence[Forecast], runs: Sequence[Run]) -> Iterator[Block]:
    """What was predicted, and no run was made of."""
    alone = [one for one in forecasts if not any(one.is_of(run) for run in runs) or one.measured]
    if not alone:
        return
    yield Heading("Predicted memory")
    bars, told = _Bars(), []
    for one in alone[:OTHERS]:
        name = f"{one.recipe}, {one.method}"
        if one.memory is None:
            told.append(f"{name}: not predicted: {one.failed}.")
            continue
        where = f"for {one.gpu or 'a CPU'}" + (f" of {one.rows}" if one.rows else "")
        said = [f"predicted {where}: {_peak(one.memory)}"]
        bars.add(f"{name}, predicted {where}", one.memory.at_peak, predicted=True)
        if one.measured is not None:
            bars.add(f"{name}, measured", one.measured.at_peak)
            said.append(f"{_peak(one.measured)} measured, {_difference(one, one.measured)}")
        told.append(f"{name}: {'; '.join(said)}.")
    if bars:
        yield bars.block("Live bytes at the peak of an update, as predicted", " ".join(told))
    else:
        yield Lines(told)
    if len(alone) > OTHERS:
        yield Lines([f"and {len(alone) - OTHERS} more predictions"])


class _Bars:
    """Bars in the order in which they are added."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._times: Counter[str] = Counter()
        self._peaks: list[Breakdown] = []
        self._predicted: list[bool] = []

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, name: str, peak: Breakdown, predicted: bool = False) -> None:
        # Bars of one name would be drawn on each other.
        self._times[name] += 1
        self._names.append(name if self._times[name] == 1 else f"{name} ({self._times[name]})")
        self._peaks.append(peak)
        self._predicted.append(predicted)

    def block(self, caption: str, told: str) -> Bars:
        parts = [(name, [getattr(peak, name) for peak in self._peaks]) for name in CATEGORIES]
        return Bars(caption, self._names, [part for part in parts if any(part[1])], told, self._predicted)
