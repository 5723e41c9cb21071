"""The largest batch that a GPU's memory has room for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..codec import Record
from ..errors import RecipeError
from .prediction import Moment, Prediction
from .predictions import Predictions
from .workload import Workload

# What a phase holds is nearly affine in the batch size, so that a line leads to the boundary. Where it does not (what
# is reserved beyond that depends on how blocks fit into each other), the range that is left is halved.
MOST_PREDICTIONS = 16
BY_LINE = 5


@dataclass(frozen=True)
class LargestBatch(Record):
    """Where a GPU's memory ends, in rows of a micro-batch.

    ``fits`` is the largest batch size that was predicted and fits; 0 where not even one row does. ``exceeds`` is the
    smallest that does not fit, None where none was met. ``predictions``: how many of them it took.
    """

    fits: int
    exceeds: int | None
    predictions: int

    @property
    def exact(self) -> bool:
        """Whether one row more was shown not to fit."""
        return self.exceeds == self.fits + 1


def largest_batch(workload: Workload, predictions: Predictions, most: int = MOST_PREDICTIONS) -> LargestBatch:
    """The largest batch size with which ``workload`` fits, looked for from its own batch size.

    ``fits`` and ``exceeds`` are batch sizes that were predicted, neither is extrapolated; only where the weights alone
    exceed the memory, one prediction of any size is enough. At most ``most`` predictions are made. Raises RecipeError
    for ``most`` below 1, and what a prediction raises.
    """
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise RecipeError(f"most is {most!r}; allowed: a whole number of at least 1")
    search = _Search()
    candidate = workload.batch_size
    while True:
        prediction = predictions.of(dataclasses.replace(workload, batch_size=candidate))
        search.add(prediction)
        if search.exceeds == search.fits + 1 or search.predictions == most:
            return LargestBatch(search.fits, search.exceeds, search.predictions)
        candidate = search.next()


def weights_exceed(prediction: Prediction) -> bool:
    """Whether the weights alone are more than the GPU has: then no batch size fits."""
    gpu = prediction.gpu
    return prediction.memory.weights_bytes + gpu.context_bytes > gpu.memory_bytes


class _Search:
    """What is known of the boundary so far."""

    def __init__(self) -> None:
        self.fits = 0
        self.exceeds: int | None = None
        self.predictions = 0
        self._last: Prediction | None = None
        self._guess = math.inf

    def add(self, prediction: Prediction) -> None:
        size = prediction.batch_size
        if prediction.fits:
            self.fits = max(self.fits, size)
        elif weights_exceed(prediction):
            self.exceeds = 1
        else:
            self.exceeds = size if self.exceeds is None else min(self.exceeds, size)
        self.predictions += 1
        self._guess = _boundary(prediction, self._last)
        self._last = prediction

    def next(self) -> int:
        """The batch size to predict next: strictly between ``fits`` and ``exceeds``."""
        end = math.inf if self.exceeds is None else self.exceeds
        if self.predictions < BY_LINE and self.fits <= self._guess < end:
            return max(int(self._guess), self.fits + 1)
        return 2 * self.fits if self.exceeds is None else (self.fits + self.exceeds) // 2


def _boundary(prediction: Prediction, before: Prediction | None) -> float:
    """The batch size at which the memory ends, by the line of the phase that meets its end first."""
    room = prediction.gpu.memory_bytes - (prediction.device_bytes - prediction.peak_bytes)
    boundary = math.inf
    for moment in prediction.moments:
        row_bytes = _row_bytes(moment, prediction, before)
        if row_bytes > 0:
            boundary = min(boundary, prediction.batch_size + (room - moment.bytes) / row_bytes)
    return boundary


def _row_bytes(moment: Moment, prediction: Prediction, before: Prediction | None) -> float:
    """What one row more adds to the highest point of a phase. Of one prediction alone: what is held beside weights,
    gradients and optimizer state, which is taken to be proportional to the batch, except by the optimizer.
    """
    if before is not None:
        grown = moment.bytes - before.moment(moment.phase).bytes
        return grown / (prediction.batch_size - before.batch_size)
    if moment.phase == "optimizer":
        return 0.0
    return (moment.breakdown.activations + moment.breakdown.temporaries) / prediction.batch_size
