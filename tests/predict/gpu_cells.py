"""Cells of the grid, predicted in processes of their own while a GPU measures them one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from predict.accuracy import Cell
from predict.gpu_grid import figures, grid
from predict.real_memory import gpu_peaks

from pytest_ftcheck.environment import versions
from pytest_ftcheck.errors import FtcheckError, PredictionError
from pytest_ftcheck.failures import is_out_of_memory, one_line
from pytest_ftcheck.predict import Gpu, Prediction, predict_recipe

POLL_S = 0.1
# How long a prediction may let the GPU wait: the largest takes a minute where many are made at once.
PATIENCE_S = 600.0

Measure = Callable[[Any, str, str], dict[str, int]]


class Predicting:
    """Predictions of ``names`` for ``gpu``, made by ``at_once`` processes that see no GPU, and so may fork."""

    def __init__(self, names: Iterable[str], gpu: Gpu, at_once: int) -> None:
        names = tuple(names)
        self._folder = tempfile.TemporaryDirectory(prefix="ftcheck-cells-")
        self._processes = [
            self._start({"gpu": gpu.to_json(), "names": names[first::at_once]})
            for first in range(min(at_once, len(names)))
        ]

    def __enter__(self) -> Predicting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def get(self, name: str) -> Prediction:
        """The prediction of a cell, as soon as it is there. Raises PredictionError where there will be none."""
        file, end = self._file(name), time.monotonic() + PATIENCE_S
        while not file.exists():
            over = all(process.poll() is not None for process in self._processes)
            if (over and not file.exists()) or time.monotonic() > end:
                raise PredictionError(f"nothing was predicted of {name}")
            time.sleep(POLL_S)
        answer = json.loads(file.read_text(encoding="utf-8"))
        if "error" in answer:
            raise PredictionError(answer["error"])
        return Prediction.from_json(answer["prediction"])

    def _file(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.json"

    def _start(self, request: dict[str, Any]) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "predict.gpu_cells", self._folder.name],
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        return process


def compared(name: str, predicting: Predicting, device: str, measure: Measure = gpu_peaks) -> Cell:
    """A cell of the grid as it is measured on ``device``, beside what is predicted of it."""
    workload = grid()[name]
    try:
        measured = measure(workload.recipe(), workload.method_name, device)
    except Exception as error:
        # A training's own memory error is hidden behind one that says what to change.
        if not (is_out_of_memory(error) or isinstance(error.__context__, torch.cuda.OutOfMemoryError)):
            raise
        return Cell(name, why_not=f"it does not fit; predicted {_needed(predicting.get(name))}")
    return Cell(name, figures(predicting.get(name), measured))


def environment(device: str, profile: Gpu) -> dict[str, str]:
    """Where and with what it is measured."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        driver = "unknown"
    there = {"gpu": torch.cuda.get_device_name(device), "profile": profile.name, "driver": driver}
    cudnn = str(torch.backends.cudnn.version())
    return {**there, "cuda": str(torch.version.cuda), "cudnn": cudnn, **versions()}


def _needed(prediction: Prediction) -> str:
    return f"to take {prediction.device_bytes / 1e9:.1f} GB of {prediction.gpu.memory_bytes / 1e9:.1f} GB"


def _answers(names: Iterable[str], gpu: Gpu) -> Iterator[tuple[str, dict[str, str]]]:
    cells = grid()
    for name in names:
        try:
            prediction = predict_recipe(cells[name].recipe(), cells[name].method_name, gpu=gpu)
        except FtcheckError as error:
            yield name, {"error": one_line(error)}
        else:
            yield name, {"prediction": prediction.to_json()}


def main() -> None:
    """One of the processes: the standard input says which cells, the argument where they are written."""
    folder, request = Path(sys.argv[1]), json.loads(sys.stdin.read())
    for name, answer in _answers(request["names"], Gpu.from_json(request["gpu"])):
        unfinished = folder / f"{name}.part"
        unfinished.write_text(json.dumps(answer), encoding="utf-8")
        os.replace(unfinished, folder / f"{name}.json")


if __name__ == "__main__":
    main()
