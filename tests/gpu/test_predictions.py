"""Predictions against the allocator of a real GPU, over a grid; the table of it is evidence that can be committed.

After each cell it is written to $FTCHECK_EVIDENCE_DIR, or $OUT, or a temporary folder, as gpu-predictions.json and .md.
Without pytest the same is ``python -m predict.measure_gpu`` in ``tests``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from predict.accuracy import Cell, Table
from predict.gpu_cells import Predicting, compared, environment
from predict.gpu_grid import grid
from predict.measure_gpu import AT_ONCE, NAME

from pytest_ftcheck.predict import Gpu
from pytest_ftcheck.predict.present import present_gpu

pytestmark = pytest.mark.gpu

GRID = tuple(grid())


@pytest.fixture(scope="module")
def profile(ft_device: str) -> Gpu:
    if not ft_device.startswith("cuda"):
        pytest.skip("what is measured is CUDA's caching allocator")
    gpu = present_gpu(ft_device)
    if gpu is None:
        pytest.skip(f"no profile is like {torch.cuda.get_device_name(ft_device)}")
    return gpu


@pytest.fixture(scope="module")
def predicting(profile: Gpu, request: pytest.FixtureRequest) -> Iterator[Predicting]:
    """Of the cells that were selected, made while others are being measured."""
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with Predicting([name for name in GRID if name in asked], profile, AT_ONCE) as predicting:
        yield predicting


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """What was compared so far."""
    return []


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = os.environ.get("FTCHECK_EVIDENCE_DIR") or os.environ.get("OUT")
    folder = Path(given) if given else tmp_path_factory.mktemp("evidence")
    yield folder
    print(f"\nwritten: {folder / NAME}.md")


@pytest.mark.parametrize("name", GRID)
def test_a_prediction_is_what_the_gpus_allocator_says(
    name: str, predicting: Predicting, profile: Gpu, ft_device: str, cells: list[Cell], evidence: Path
) -> None:
    cells.append(compared(name, predicting, ft_device))
    Table(environment(ft_device, profile), tuple(cells)).write(evidence, NAME)
    if not cells[-1].figures:
        pytest.skip(cells[-1].why_not)
    assert not cells[-1].failures, "\n".join(map(str, cells[-1].failures))
