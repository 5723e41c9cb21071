"""Predictions of several workloads for one GPU: what is asked for again is not predicted again."""

from __future__ import annotations

import time
from collections.abc import Callable

from .gpu import Gpu, gpu_called
from .limits import Limits
from .prediction import Prediction
from .predictor import predict_recipe
from .workload import Workload


class Predictions:
    """``of(workload)`` is the prediction of a workload on ``gpu``, a profile or its name.

    ``tell`` is called before a prediction is made, with the workload and the number of those that were made before:
    each takes seconds. ``time_limit_s`` is for each of them.
    """

    def __init__(
        self,
        gpu: str | Gpu = "h100",
        *,
        time_limit_s: float = Limits.time_s,
        tell: Callable[[Workload, int], None] = lambda workload, made: None,
    ) -> None:
        self.gpu = gpu_called(gpu)
        self.time_limit_s, self.tell = time_limit_s, tell
        # A list: a workload holds a model's configuration, which has no hash.
        self._made: list[tuple[Workload, Prediction]] = []
        self.took_s = 0.0

    def of(self, workload: Workload) -> Prediction:
        """Raises RecipeError, TrainingError and PredictionError as ``predict_training`` does."""
        for known, prediction in self._made:
            if known == workload:
                return prediction
        self.tell(workload, self.count)
        began = time.perf_counter()
        recipe, limit_s = workload.recipe(), self.time_limit_s
        prediction = predict_recipe(recipe, workload.method_name, gpu=self.gpu, time_limit_s=limit_s)
        self._made.append((workload, prediction))
        self.took_s += time.perf_counter() - began
        return prediction

    @property
    def count(self) -> int:
        """How many predictions were made."""
        return len(self._made)
