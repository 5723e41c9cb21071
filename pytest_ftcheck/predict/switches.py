"""Which setting of a training buys how much: each changed alone, and predicted anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..codec import Record
from ..errors import FtcheckError
from ..methods import Full
from .gpu import Gpu
from .prediction import Prediction
from .predictions import Predictions
from .workload import Workload

HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Change:
    """``settings`` of a workload that are changed together; ``title`` and ``why`` are for people, a line each."""

    title: str
    why: str
    settings: dict[str, Any]

    def applied(self, workload: Workload) -> Workload:
        return dataclasses.replace(workload, **self.settings)


@dataclass(frozen=True)
class Switch(Record):
    """What one change does: ``prediction`` is the workload's with it, ``saved_bytes`` how much lower its allocated peak
    is than without (negative where it is higher).
    """

    title: str
    why: str
    saved_bytes: int
    prediction: Prediction


def changes(workload: Workload, gpu: Gpu) -> Iterator[Change]:
    """The settings of ``workload`` that could be otherwise on ``gpu``."""
    yield _optimizer(workload.optimizer)
    yield _checkpointing(not workload.gradient_checkpointing)
    if workload.dtype in HALF and not isinstance(workload.method, Full):
        yield _adapters(not workload.autocast_adapter_dtype)
    yield _attention("sdpa" if workload.attention == "eager" else "eager")
    yield _dtype("float32" if workload.dtype in HALF else half_precision(gpu))


def _optimizer(name: str) -> Change:
    family, _, way = name.rpartition("-")
    if way == "fused":
        why = "needs temporaries as large as what trains, where fused updates in place"
        return Change(f"{family}-foreach", why, {"optimizer": f"{family}-foreach"})
    why = f"updates in place; {way} needs temporaries as large as what trains"
    return Change(f"{family}-fused", why, {"optimizer": f"{family}-fused"})


def _checkpointing(on: bool) -> Change:
    if on:
        why = "keeps only the input of each block, and computes the rest again in the backward pass"
        return Change("gradient checkpointing", why, {"gradient_checkpointing": True})
    why = "keeps every activation, and computes nothing twice"
    return Change("no gradient checkpointing", why, {"gradient_checkpointing": False})


def _adapters(in_float32: bool) -> Change:
    if in_float32:
        why = "as PEFT does by default; each adapter keeps a float32 copy of its input"
        return Change("adapters in float32", why, {"autocast_adapter_dtype": True})
    why = "autocast_adapter_dtype=False: no adapter keeps a float32 copy of its input"
    return Change("adapters in the model's dtype", why, {"autocast_adapter_dtype": False})


def _attention(kind: str) -> Change:
    if kind == "eager":
        why = "keeps the scores of every head, sequence length squared"
    else:
        why = "keeps no scores, where the GPU has a fused kernel for it"
    return Change(f"{kind} attention", why, {"attention": kind})


def _dtype(dtype: str) -> Change:
    why = f"weights, gradients, optimizer state and activations in {'two' if dtype in HALF else 'four'} bytes each"
    return Change(f"all in {dtype}", why, {"dtype": dtype})


def half_precision(gpu: Gpu) -> str:
    """The half precision that ``gpu`` computes in."""
    return "float16" if gpu.emulates_bfloat16 else "bfloat16"


def switches(workload: Workload, predictions: Predictions) -> tuple[tuple[Switch, ...], tuple[str, ...]]:
    """What each change of ``workload`` saves, the best first; and a line for each that cannot be predicted, since a
    model may lack checkpointing, or a kind of attention.
    """
    asked = predictions.of(workload)
    found, problems = [], []
    for change in changes(workload, predictions.gpu):
        try:
            prediction = predictions.of(change.applied(workload))
        except FtcheckError as error:
            problems.append(f"{change.title}: {str(error).splitlines()[0]}")
            continue
        saved = asked.allocated_bytes - prediction.allocated_bytes
        found.append(Switch(change.title, change.why, saved, prediction))
    return tuple(sorted(found, key=lambda switch: -switch.saved_bytes)), tuple(problems)
