"""What each metric is held to where nobody says otherwise, with the noise that was measured.

Exact first, statistics last: a metric that is noisier than this belongs to the statistical comparisons; here one number
is held to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import RecipeError
from .metric import Metric
from .tolerance import Tolerance, tolerance

EXACT = Tolerance(absolute=0.0)
# Two runs of the same code on the same kind of GPU: 36 pairs of published runs differ with a robust standard deviation
# of 0.06 % in peak memory and of 0.022 % in the training loss after 5000 steps.
MEMORY = Tolerance(relative=0.01)
LOSS = Tolerance(relative=0.002)
# A curve that is off to one side throughout is no noise: half the limit is four standard deviations of a single point.
DRIFT_SHARE = 0.5
# The margin by which an arm may come out worse in a paired comparison of losses.
LOSS_GAP = Tolerance(absolute=0.01)
# The same code takes -60 to +90 % of the time on two hosts of one kind: a stored time is told and decides nothing.
TIME = Tolerance(relative=0.10, warns=True)
# Of a user's own fraction nothing is known.
OWN = Tolerance(relative=0.01)

DEFAULTS: Mapping[str, Tolerance] = {
    "memory.peak_bytes": MEMORY,
    "memory.activations_bytes": MEMORY,
    "memory_ratio.peak": MEMORY,
    "loss.train": LOSS,
    "loss.eval": LOSS,
    "loss_gap": LOSS_GAP,
    "time.step_s": TIME,
    "time.tokens_per_s": TIME,
    "time_ratio": TIME,
}
# Metrics that are exact although they are fractions: quotients of what is counted.
COUNTED = ("memory_ratio.static", "flops_ratio")
# Times say nothing of another machine.
OF_A_MACHINE = ("time.step_s", "time.tokens_per_s", "time_ratio")


@dataclass(frozen=True)
class Chosen:
    """The tolerance of a metric, and who chose it: "the test", "an option", "calibration", or "default"."""

    tolerance: Tolerance
    by: str = "default"

    @property
    def explicit(self) -> bool:
        return self.by in ("the test", "an option")


class Tolerances:
    """The tolerances that a test gives, and those of the options, by a metric's name (``"lora/memory.peak_bytes"``),
    what it is (``"memory.peak_bytes"``) or its family (``"memory"``).
    """

    def __init__(self, of_test: Mapping[str, str], of_options: Mapping[str, str] | None = None) -> None:
        if not isinstance(of_test, Mapping):
            raise RecipeError(f"tolerance={of_test!r}; allowed: a dictionary such as {{'memory.peak_bytes': '2%'}}")
        self._given = (("the test", of_test), ("an option", of_options or {}))

    def of(self, metric: Metric, recorded: Metric | None = None) -> Chosen:
        """The tolerance of ``metric``; ``recorded`` is its baseline, which may have one from calibration."""
        for by, given in self._given:
            for key in _keys(metric):
                if key in given:
                    return Chosen(tolerance(given[key], metric.name, metric.unit), by)
        if recorded is not None and recorded.limit:
            calibrated = tolerance(recorded.limit, metric.name, metric.unit)
            return Chosen(replace(calibrated, warns=default(metric).warns), "calibration")
        return Chosen(default(metric))

    def refuse_wrong(self, metrics: tuple[Metric, ...]) -> None:
        """Raise RecipeError for a tolerance that cannot be, and for one of the test that is of no metric."""
        for metric in metrics:
            self.of(metric)
        known = [key for metric in metrics for key in _keys(metric)]
        for key in self._given[0][1]:
            if key not in known:
                kinds = ", ".join(dict.fromkeys(metric.kind for metric in metrics))
                raise RecipeError(f"tolerance names {key!r}; allowed: {kinds}, their families, or with their run")


def default(metric: Metric) -> Tolerance:
    """The tolerance where nobody says otherwise."""
    if metric.kind in DEFAULTS:
        return DEFAULTS[metric.kind]
    is_fraction = isinstance(metric.value, float) and metric.kind not in COUNTED
    return OWN if is_fraction else EXACT


def _keys(metric: Metric) -> tuple[str, ...]:
    """What a tolerance may call it, the most precise first."""
    return metric.name, metric.kind, metric.kind.partition(".")[0]
