"""Measures what real trainings allocate on this machine's CPU, and prints the table of docs/prediction-accuracy.md.

    cd tests && python -m predict.measure_cpu

It takes some minutes and 3 GB of memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
from collections.abc import Iterator

from predict.accuracy import Cell, Figure, Table
from predict.real_memory import real_peak_bytes
from predict.workloads import C_ATTN, FULL, Q_AND_V, gpt2_124m, llama_100m

from pytest_ftcheck.environment import versions
from pytest_ftcheck.methods import Method
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.workload import Workload

LIMIT = 0.005
LENGTH = 128
MODELS = {"GPT-2 124M": (gpt2_124m, C_ATTN), "Llama 100M": (llama_100m, Q_AND_V)}


def workloads() -> Iterator[tuple[str, Workload]]:
    for (model, (config, lora)), kind, rows, dropout in itertools.product(
        MODELS.items(), ("full", "LoRA"), (1, 4), (0.0, 0.1)
    ):
        method: Method = FULL if kind == "full" else dataclasses.replace(lora, dropout=dropout)
        settings = dict(batch_size=rows, sequence_length=LENGTH, optimizer="adamw-loop")
        name = f"{model}, {kind}, {rows} x {LENGTH}, dropout {dropout:g}"
        yield name, Workload(model=config(dropout), method=method, **settings)


def measured(name: str, workload: Workload) -> Cell:
    predicted = predict_recipe(workload.recipe(), workload.method_name, device="cpu").peak_bytes
    real = real_peak_bytes(workload.recipe(), workload.method_name)
    return Cell(name, (Figure("peak of live bytes", predicted, real, LIMIT),))


def main() -> None:
    cells = tuple(measured(name, workload) for name, workload in workloads())
    print(Table({"CPU": platform.machine(), **versions()}, cells).markdown())


if __name__ == "__main__":
    main()
