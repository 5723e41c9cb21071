"""Predictions that no process made: their memory is a given function of the workload."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict import GPUS, Gpu, Prediction
from pytest_ftcheck.predict.prediction import Held, Moment
from pytest_ftcheck.predict.predictions import Predictions
from pytest_ftcheck.predict.workload import Workload
from pytest_ftcheck.run import Breakdown, Flops, Memory


def a_gpu(memory_bytes: int, **changes: Any) -> Gpu:
    """A GPU with so much memory, of which CUDA keeps nothing for itself."""
    settings: dict[str, Any] = {"name": "pretended", "memory_bytes": memory_bytes, "context_bytes": 0, **changes}
    return dataclasses.replace(GPUS["h100"], **settings)


def a_prediction(
    live_bytes: int = 900,
    *,
    gpu: Gpu | None = None,
    weights: int = 100,
    held: tuple[Held, ...] = (),
    **changes: Any,
) -> Prediction:
    """One whose peak, in the backward pass, is weights and activations."""
    at_peak = Breakdown(weights=weights, activations=live_bytes - weights)
    moment = Moment("backward", live_bytes, at_peak, held)
    prediction = Prediction(
        recipe="a model",
        method="lora",
        declaration="LoRA(r=16, alpha=16, all-linear, lr=0.01)",
        gpu=gpu or a_gpu(1000),
        backend="fakegpu",
        dtype="bfloat16",
        batch_size=1,
        accumulation=1,
        peak_bytes=live_bytes,
        active_bytes=live_bytes,
        allocated_bytes=live_bytes,
        reserved_bytes=live_bytes,
        peak_phase="backward",
        memory=Memory(live_bytes, weights, 0, 0, at_peak.activations, "backward", at_peak),
        moments=(dataclasses.replace(moment, phase="saved"), moment),
        flops=Flops(1000, 2000),
        tokens=8,
        step_s=0.5,
        operations=10,
        notes=(),
        versions={"torch": "2.13.0"},
    )
    return dataclasses.replace(prediction, **changes)


class Synthetic(Predictions):
    """Predicts that ``live(workload)`` bytes are held, or raises what it raises; memory is reserved in multiples of
    ``step``. ``asked`` lists what was predicted.
    """

    def __init__(self, gpu: Gpu, live: Callable[[Workload], int], *, step: int = 1, weights: int = 100) -> None:
        super().__init__(gpu)
        self.asked: list[Workload] = []
        self._live, self._step, self._weights = live, step, weights

    def of(self, workload: Workload) -> Prediction:
        if workload not in self.asked:
            self.asked.append(workload)
        live = self._live(workload)
        return a_prediction(
            live,
            gpu=self.gpu,
            weights=self._weights,
            batch_size=workload.batch_size,
            reserved_bytes=-(-live // self._step) * self._step,
            declaration=workload.method.label,
        )

    @property
    def count(self) -> int:
        return len(self.asked)


def unpredictable(workload: Workload) -> int:
    """In place of a size."""
    raise PredictionError(f"no {workload.attention} attention\n  what to do: another")
