"""The script that fills the table of evidence, with a pretended GPU; a real one is needed for real figures only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from predict import measure_gpu
from predict.accuracy import Table
from predict.gpu_cells import Predicting
from predict.gpu_grid import LIMITS
from predict.measure_gpu import NAME, main

from pytest_ftcheck.errors import PredictionError, TrainingError
from pytest_ftcheck.predict import Prediction
from pytest_ftcheck.predict.gpu import GPUS

CELL = "gpt2-124m attention checkpointing"
SCRIPT = ["--pretend", "h100", "--cells", CELL, "--at-once", "1"]


class Known:
    """In place of the processes that predict, what one of them has predicted."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def __enter__(self) -> Known:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, name: str) -> Prediction:
        return self.prediction


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    """Of the cell, from such a process: it must not see a GPU that this one sees, since it forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with Predicting([CELL], GPUS["h100"], at_once=4) as predicting:
            return predicting.get(CELL)


@pytest.fixture
def peaks(prediction: Prediction, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setattr(measure_gpu, "Predicting", lambda *_: Known(prediction))
    return {name: getattr(prediction, name) for name in LIMITS}


def table(folder: Path) -> Table:
    return Table.from_json((folder / f"{NAME}.json").read_text())


def test_a_gpu_as_predicted_passes(peaks: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCRIPT, "--folder", str(tmp_path)], lambda *_: peaks) == 0

    (cell,) = table(tmp_path).cells
    assert [figure.measured for figure in cell.figures] == list(peaks.values())
    assert CELL in (tmp_path / f"{NAME}.md").read_text()
    assert f"{CELL}: active_bytes +0.00%, allocated_bytes +0.00%, reserved_bytes +0.00%" in capsys.readouterr().out


def test_a_gpu_that_takes_more_fails(peaks: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = peaks | {"active_bytes": peaks["active_bytes"] * 21 // 20}

    assert main([*SCRIPT, "--folder", str(tmp_path)], lambda *_: measured) == 1
    assert "active_bytes -4.76% OFF" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), 0, "it does not fit; predicted to take 1.3 GB of 85.0 GB"),
        (RuntimeError("CUDA error: unspecified launch failure"), 1, "unspecified launch failure"),
    ],
)
def test_what_cannot_be_measured_is_in_the_table(
    error: Exception, status: int, why: str, peaks: dict[str, int], tmp_path: Path
) -> None:
    def measure(*_: Any) -> dict[str, int]:
        try:
            raise error
        except RuntimeError:
            raise TrainingError(f"train(job) raised {error}") from None

    assert main([*SCRIPT, "--folder", str(tmp_path)], measure) == status
    assert why in table(tmp_path).cells[0].why_not


def test_a_cell_that_is_not_predicted_is_an_error() -> None:
    with Predicting([], GPUS["h100"], at_once=1) as predicting, pytest.raises(PredictionError, match="nothing was"):
        predicting.get(CELL)


def test_names_that_no_cell_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pretend", "h100", "--cells", "gpt5"]) == 2
    assert "no cell is called like gpt5; there are gpt2-124m full base" in capsys.readouterr().err
