"""Simulated builds: step times with the noise of a real machine, and paired losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_ftcheck.comparison.interleaving import PAIRS, STEPS_OF_A_TURN

Array = np.ndarray


@dataclass(frozen=True)
class Machine:
    """The noise of a step's logarithm: a stationary AR(1) process with standard deviation ``sd`` and ``correlation``
    from one step to the next, a shift of every pair as a whole, and rare steps that take an exponential share longer.
    ``process_shift`` stays with a process: where its memory lies, which core it is on.
    """

    name: str
    sd: float
    pair_shift: float
    process_shift: float
    outliers: float
    correlation: float = 0.6
    outlier_size: float = 0.3

    def log_seconds(self, draw: np.random.Generator, *shape: int) -> Array:
        """Logarithms of step times [..., steps], of which the last axis is successive."""
        noise = draw.standard_normal(shape)
        innovation = np.sqrt(1 - self.correlation**2)
        for step in range(1, shape[-1]):
            noise[..., step] = self.correlation * noise[..., step - 1] + innovation * noise[..., step]
        slow = draw.random(shape) < self.outliers
        return self.sd * noise + slow * draw.exponential(self.outlier_size, shape)

    def log_ratios(self, draw: np.random.Generator, rounds: int, slower: float) -> Array:
        """What rounds measure: log(candidate / reference) [rounds, pairs], of a candidate that is ``slower``."""
        steps = self.log_seconds(draw, rounds, PAIRS, 2 * STEPS_OF_A_TURN)
        steps += self.pair_shift * draw.standard_normal((rounds, PAIRS, 1))
        first, second = np.median(steps.reshape(rounds, PAIRS, 2, STEPS_OF_A_TURN), axis=3).transpose(2, 0, 1)
        swapped = draw.random((rounds, PAIRS)) < 0.5
        reference, candidate = np.where(swapped, second, first), np.where(swapped, first, second)
        reference, candidate = (
            side + self.process_shift * draw.standard_normal((rounds, 1)) for side in (reference, candidate)
        )
        found: Array = candidate + np.log1p(slower) - reference
        return found


# Repeated runs of published experiments differ by 1.8 % (one standard deviation); the other is a shared CI machine.
QUIET = Machine("quiet", sd=0.02, pair_shift=0.01, process_shift=0.005, outliers=0.02)
SHARED = Machine("shared", sd=0.05, pair_shift=0.03, process_shift=0.01, outliers=0.10)
OVERLOADED = Machine("overloaded", sd=0.25, pair_shift=0.10, process_shift=0.03, outliers=0.20)

# Of the difference of two losses from one seed, in nats: measured on the embedded task.
LOSS_SD = 0.0047
