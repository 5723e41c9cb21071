"""Simulated builds: step times with the noise of a real machine, and paired losses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pytest_ftcheck.comparison.interleaving import MOST_PAIRS

Array = np.ndarray

# Of a step of 20 ms, in a turn.
UPDATES = 2


@dataclass(frozen=True)
class Machine:
    """The noise of a step's logarithm: a stationary AR(1) process with standard deviation ``sd`` and ``correlation``
    from one step to the next, a slower one (``drift``), and rare steps that take an exponential share longer.
    ``process_shift`` stays with a process: where its memory lies, which core it is on.
    """

    name: str
    sd: float
    drift: float
    process_shift: float
    outliers: float
    correlation: float = 0.6
    slow_correlation: float = 0.98
    outlier_size: float = 0.3

    def log_seconds(self, draw: np.random.Generator, *shape: int) -> Array:
        """Logarithms of step times [..., steps], of which the last axis is successive."""
        noise: Array = self.sd * _autoregressive(draw, shape, self.correlation)
        noise += self.drift * _autoregressive(draw, shape, self.slow_correlation)
        slow = draw.random(shape) < self.outliers
        noise += slow * draw.exponential(self.outlier_size, shape)
        return noise

    def log_ratios(self, draw: np.random.Generator, rounds: int, slower: float, pairs: int = MOST_PAIRS) -> Array:
        """What rounds may measure: log(candidate / reference) [rounds, pairs], of a candidate that is ``slower``."""
        steps = self.log_seconds(draw, rounds, pairs * 2 * UPDATES)
        first, second = np.median(steps.reshape(rounds, pairs, 2, UPDATES), axis=3).transpose(2, 0, 1)
        swapped = draw.random((rounds, pairs)) < 0.5
        reference, candidate = np.where(swapped, second, first), np.where(swapped, first, second)
        reference, candidate = (
            side + self.process_shift * draw.standard_normal((rounds, 1)) for side in (reference, candidate)
        )
        found: Array = candidate + np.log1p(slower) - reference
        return found


def _autoregressive(draw: np.random.Generator, shape: tuple[int, ...], correlation: float) -> Array:
    """Noise of standard deviation 1 along the last axis."""
    # One step after the other in memory: each depends on the one before it.
    noise = np.ascontiguousarray(np.moveaxis(draw.standard_normal(shape), -1, 0))
    noise[1:] *= np.sqrt(1 - correlation**2)
    for before, after in itertools.pairwise(noise):
        after += correlation * before
    return np.moveaxis(noise, 0, -1)


# Repeated runs of published experiments differ by 1.8 % (one standard deviation); a shared CI machine; two cores of a
# virtual machine, of which one is kept busy, as measured (a step of 20 ms takes 16 to 26; correlations of 0.79, 0.48,
# 0.24 over 1, 5, 20 steps); and one that many others want.
QUIET = Machine("quiet", sd=0.02, drift=0.01, process_shift=0.005, outliers=0.02)
SHARED = Machine("shared", sd=0.05, drift=0.03, process_shift=0.005, outliers=0.10)
BUSY = Machine("busy", sd=0.13, drift=0.08, process_shift=0.005, outliers=0.02, correlation=0.75)
OVERLOADED = Machine("overloaded", sd=0.25, drift=0.10, process_shift=0.005, outliers=0.20)

# Of the difference of two losses from one seed, in nats: measured on the embedded task.
LOSS_SD = 0.0047
