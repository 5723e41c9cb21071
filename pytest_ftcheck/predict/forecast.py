"""What is predicted of a run's memory, as far as a report sets it beside what was measured."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..codec import Record
from ..errors import FtcheckError, PredictionError
from ..run import Memory, Run
from .prediction import Prediction
from .present import profile_of

if TYPE_CHECKING:
    from ..recipe import Recipe

# What a process may take for predictions that nobody but its report has asked for. One takes one to three seconds on a
# CPU, and ten where it needs an interpreter of its own, as beside a GPU.
BUDGET_S = 30.0
# Below this an interpreter has not begun.
LEAST_S = 1.0


@dataclass(frozen=True)
class Forecast(Record):
    """Of which training, and for which device: ``gpu`` is its name, "" for the CPU. ``memory`` is of one update after
    the first, ``allocated_bytes`` the peak of a GPU's allocator; where there is none, ``failed`` says why.

    ``rows`` says which rows a batch had, where they were not the recipe's own, and ``measured`` what a training on
    them took.
    """

    recipe: str
    method: str
    declaration: str
    dtype: str
    batch_size: int
    accumulation: int
    gpu: str
    memory: Memory | None = None
    allocated_bytes: int = 0
    failed: str = ""
    rows: str = ""
    measured: Memory | None = None

    @classmethod
    def of(cls, prediction: Prediction, rows: str = "", measured: Memory | None = None) -> Forecast:
        """What a prediction says. With the CPU's kernels it is one for the CPU, whatever was asked for."""
        return cls(
            recipe=prediction.recipe,
            method=prediction.method,
            declaration=prediction.declaration,
            dtype=prediction.dtype,
            batch_size=prediction.batch_size,
            accumulation=prediction.accumulation,
            gpu="" if prediction.backend == "cpu" else prediction.gpu.name,
            memory=prediction.memory,
            allocated_bytes=prediction.allocated_bytes,
            rows=rows,
            measured=measured,
        )

    def is_of(self, run: Run) -> bool:
        """Whether it is of that recipe and method, whatever the device and the batch are."""
        return (self.recipe, self.method, self.declaration) == (run.recipe, run.method, run.declaration)

    def differs_from(self, run: Run) -> list[str]:
        """Why it cannot be held against what ``run`` took, a few words each; empty where it can."""
        found = [] if self._is_for_device_of(run) else [f"for {self.gpu or 'a CPU'}"]
        found += [] if self.dtype == run.dtype else [f"in {self.dtype}"]
        if (self.batch_size, self.accumulation) != (run.batch_size, run.accumulation) or run.retried:
            found.append(f"in batches of {self.accumulation} x {self.batch_size}")
        return found + ([f"of {self.rows}"] if self.rows else [])

    def _is_for_device_of(self, run: Run) -> bool:
        if run.environment.device == "cpu":
            return not self.gpu
        return bool(self.gpu) and self.gpu in (run.environment.device_name, called(run.environment.device_name))


def called(device_name: str) -> str:
    """The name of the profile of a GPU, by what CUDA calls it; "" where there is none."""
    profile = profile_of(device_name)
    return profile.name if profile else ""


class Forecasts:
    """Predicts what runs take on the device that they were made on, once for what a report cannot tell apart, and tells
    of each, within a budget of time.
    """

    def __init__(self, tell: Callable[[Forecast], None], budget_s: float = BUDGET_S) -> None:
        self._tell, self._left_s = tell, budget_s
        self._known: set[Any] = set()

    def add(self, recipe: Recipe, runs: Sequence[Run]) -> None:
        """Predict what is not known yet of ``runs``, which are of ``recipe``."""
        for run in runs:
            device = "" if run.environment.device == "cpu" else run.environment.device_name
            blank = Forecast(
                run.recipe, run.method, run.declaration, run.dtype, run.batch_size, run.accumulation, device
            )
            if blank not in self._known and not run.retried:
                self._known.add(blank)
                self._tell(self._made(recipe, blank))

    def _made(self, recipe: Recipe, blank: Forecast) -> Forecast:
        began = time.monotonic()
        try:
            return Forecast.of(self._predicted(recipe, blank))
        except FtcheckError as error:
            return dataclasses.replace(blank, failed=str(error).splitlines()[0])
        finally:
            self._left_s -= time.monotonic() - began

    def _predicted(self, recipe: Recipe, blank: Forecast) -> Prediction:
        from .predictor import predict_recipe

        if "torch" not in sys.modules:
            # A session of a second or two would become one of ten.
            raise PredictionError("this process has trained nothing (all runs were stored, or trained elsewhere)")
        if self._left_s < LEAST_S:
            raise PredictionError("the predictions before it took the time that a report has for them")
        if not blank.gpu:
            return predict_recipe(recipe, blank.method, device="cpu", time_limit_s=self._left_s)
        gpu = profile_of(blank.gpu)
        if gpu is None:
            raise PredictionError(f"there is no profile of {blank.gpu}")
        return predict_recipe(recipe, blank.method, gpu=gpu, time_limit_s=self._left_s)
