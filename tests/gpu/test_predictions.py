"""Predictions against the allocator of a real GPU, over a grid; the table of it is evidence that can be committed.

It is written to $FTCHECK_EVIDENCE_DIR, or $OUT, or a temporary folder, as gpu-predictions.json and .md.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from predict.accuracy import Cell, Table
from predict.gpu_grid import figures, grid
from predict.real_memory import gpu_peaks

from pytest_ftcheck.environment import versions
from pytest_ftcheck.predict import Gpu, Prediction, predict_recipe
from pytest_ftcheck.predict.present import present_gpu

pytestmark = pytest.mark.gpu

GRID = grid()
# Each prediction is a process of its own, mostly busy with importing.
AT_ONCE = 4


@pytest.fixture(scope="module")
def profile(ft_device: str) -> Gpu:
    if not ft_device.startswith("cuda"):
        pytest.skip("what is measured is CUDA's caching allocator")
    gpu = present_gpu(ft_device)
    if gpu is None:
        pytest.skip(f"no profile is like {torch.cuda.get_device_name(ft_device)}")
    return gpu


@pytest.fixture(scope="module")
def predictions(profile: Gpu, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Prediction]]]:
    """Of the cells that were selected, made while others are being measured."""
    asked = {item.callspec.params["name"] for item in request.session.items if hasattr(item, "callspec")} & GRID.keys()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(predict_recipe, GRID[name].recipe(), GRID[name].method_name, gpu=profile)
            for name in GRID
            if name in asked
        }


@pytest.fixture(scope="module")
def cells(ft_device: str, profile: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cell]]:
    """What was compared; written down at the end."""
    compared: list[Cell] = []
    yield compared
    folder = os.environ.get("FTCHECK_EVIDENCE_DIR") or os.environ.get("OUT") or tmp_path_factory.mktemp("evidence")
    for file in Table(environment(ft_device, profile), tuple(compared)).write(Path(folder), "gpu-predictions"):
        print(f"\nwritten: {file}")


def environment(device: str, profile: Gpu) -> dict[str, str]:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        driver = "unknown"
    there = {"gpu": torch.cuda.get_device_name(device), "profile": profile.name, "driver": driver}
    return {**there, "cuda": str(torch.version.cuda), **versions()}


@pytest.mark.parametrize("name", GRID)
def test_a_prediction_is_what_the_gpus_allocator_says(
    name: str, predictions: dict[str, Future[Prediction]], profile: Gpu, ft_device: str, cells: list[Cell]
) -> None:
    workload, predicted = GRID[name], predictions[name].result()
    free = torch.cuda.mem_get_info(ft_device)[1]
    if predicted.device_bytes > free:
        why = f"it needs {predicted.device_bytes / 1e9:.1f} GB, and the GPU has {free / 1e9:.1f} GB"
        cells.append(Cell(name, why_not=why))
        pytest.skip(why)
    measured = gpu_peaks(workload.recipe(), workload.method_name, ft_device)
    cells.append(Cell(name, figures(predicted, measured)))
    assert not cells[-1].failures, "\n".join(map(str, cells[-1].failures))
