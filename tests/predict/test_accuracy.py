"""The table of evidence and the grid behind it, with pretended measurements: a GPU is needed for real ones only."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from predict.accuracy import Cell, Figure, Table
from predict.gpu_grid import LIMITS, MODELS, SWITCHES, figures, grid
from predict.workloads import Q_AND_V, predicted, tiny_llama

GB = 10**9


def cell(name: str, **errors: float) -> Cell:
    """A cell in which 1 GB was measured of each quantity."""
    figures = (Figure(quantity, round(GB * (1 + error)), GB, 0.02) for quantity, error in errors.items())
    return Cell(name, tuple(figures))


@pytest.mark.parametrize(
    ("error", "holds"), [(0.0, True), (0.02, True), (-0.02, True), (0.0201, False), (-0.03, False)]
)
def test_a_figure_holds_up_to_its_limit(error: float, holds: bool) -> None:
    assert Figure("active", round(GB * (1 + error)), GB, 0.02).holds is holds


@pytest.mark.parametrize("measured", [0, -1])
def test_what_was_not_measured_does_not_hold(measured: int) -> None:
    figure = Figure("active", GB, measured, 0.02)
    assert math.isnan(figure.error)
    assert not figure.holds


def test_a_failure_says_what_is_off_and_by_how_much() -> None:
    (figure,) = cell("full", active=0.05).failures
    assert str(figure) == "active is off by +5.00% (limit 2.0%): predicted 1,050,000,000 B, measured 1,000,000,000 B"


def test_every_failing_figure_of_a_cell_is_listed() -> None:
    assert [figure.quantity for figure in cell("full", active=0.05, allocated=0.01, reserved=-0.1).failures] == [
        "active",
        "reserved",
    ]


def test_the_worst_cell_comes_first() -> None:
    cells = (cell("small", active=0.001), cell("unmeasured"), cell("low", active=-0.05), cell("high", active=0.03))
    rows = [line.split(" | ")[0] for line in Table({}, cells).markdown().splitlines() if line.startswith("| ")]
    assert rows == ["| training", "| low", "| high", "| small"]


def test_errors_count_as_shares_of_their_limits() -> None:
    strict = Cell("strict", (Figure("active", round(1.015 * GB), GB, 0.02),))
    lenient = Cell("lenient", (Figure("reserved", round(1.05 * GB), GB, 0.10),))
    assert strict.share > lenient.share


def test_a_table_says_where_it_was_measured_and_what_is_off() -> None:
    table = Table({"gpu": "NVIDIA H200", "torch": "2.13.0"}, (cell("full", active=0.05), cell("lora", active=0.0)))
    text = table.markdown()
    assert text.startswith("gpu NVIDIA H200, torch 2.13.0\n\n| training | active, predicted | measured | error |\n")
    assert "| full | 1,050,000,000 | 1,000,000,000 | +5.0000% **off** |" in text
    assert "| lora | 1,000,000,000 | 1,000,000,000 | +0.0000% |" in text


def test_what_was_left_out_is_in_the_table_with_the_reason() -> None:
    table = Table(
        {}, (cell("full", active=0.0), Cell("llama-8b full float32", why_not="needs 160 GB, there are 141 GB"))
    )
    assert table.markdown().endswith("\n- llama-8b full float32: not measured, needs 160 GB, there are 141 GB\n")


def test_a_written_table_can_be_read_again(tmp_path: Path) -> None:
    table = Table({"gpu": "NVIDIA H200"}, (cell("full", active=0.05), Cell("lora", why_not="no room")))
    json_file, markdown_file = table.write(tmp_path / "evidence", "gpu-h200")
    assert Table.from_json(json_file.read_text()) == table
    assert markdown_file.read_text() == table.markdown()


def test_the_grid_has_every_model_method_and_switch() -> None:
    cells = grid()
    for names in (MODELS, SWITCHES, ("full", "attention", "all-linear", "dora")):
        for name in names:
            assert [one for one in cells if name in one.split()], f"no cell has {name}"
    assert 40 <= len(cells) <= 60


def test_a_switch_changes_its_cell() -> None:
    cells = grid()
    base = cells["gpt2-124m full base"]
    for switch in set(SWITCHES) - {"base"}:
        other = cells[f"gpt2-124m full {switch}"]
        assert (other.recipe().dtype, vars(other) | {"model": 0}) != (base.recipe().dtype, vars(base) | {"model": 0})


def test_a_prediction_is_compared_in_all_three_figures() -> None:
    prediction = predicted(tiny_llama, Q_AND_V, batch_size=2, sequence_length=64)
    exactly = {name: getattr(prediction, name) for name in LIMITS}
    assert not Cell("as predicted", figures(prediction, exactly)).failures
    for name, limit in LIMITS.items():
        pretended = exactly | {name: round(exactly[name] * (1 + 1.2 * limit))}
        assert [figure.quantity for figure in Cell("off", figures(prediction, pretended)).failures] == [name]
