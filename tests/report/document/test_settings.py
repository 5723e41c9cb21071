"""A sweep in a report: drawn, and in a table."""

from __future__ import annotations

import dataclasses
import math

from pytest_ftcheck.order import Gap
from pytest_ftcheck.report.document.blocks import Block, Points, Table
from pytest_ftcheck.report.document.figures import of_points
from pytest_ftcheck.report.document.html import page
from pytest_ftcheck.report.document.markdown import markdown
from pytest_ftcheck.report.document.settings import settings
from pytest_ftcheck.sweeping.sweep import Setting, Sweep

GAP = Gap(10, 1.0, 1.2, 0.2, 0.1, 0.3)
SWEEP = Sweep(
    recipe="a recipe",
    steps=10,
    settings=(
        Setting("LoRA(r=2)", "as declared", "as declared", 1.2, 64),
        Setting("LoRA(r=2, lr=1)", "10x", "learning rate", math.inf, 0, "loss is nan in update 3"),
        Setting("LoRA(r=2, lr=0.1)", "3x", "learning rate", 1.1, 64),
        Setting("LoRA(r=8, <b>)", "rank 8", "rank", 1.01, 256),
    ),
    best="LoRA(r=8, <b>)",
    declared_gap=GAP,
    best_gap=dataclasses.replace(GAP, mean=0.01),
    parameters=1096,
    full_loss=1.0,
)


def of(sweep: Sweep, drawn: bool = True) -> tuple[list[Points], list[Table], list[Block]]:
    blocks = list(settings(sweep, drawn))
    points = [block for block in blocks if isinstance(block, Points)]
    return points, [block for block in blocks if isinstance(block, Table)], blocks


def test_the_settings_of_a_stage_are_a_group_and_what_failed_is_not_drawn() -> None:
    (points,), (table,), _ = of(SWEEP)
    assert [(group.name, list(group.x), list(group.y)) for group in points.groups] == [
        ("as declared", [64], [1.2]),
        ("learning rate", [64], [1.1]),
        ("rank", [256], [1.01]),
    ]
    assert points.told == (
        "Full trains 1,096 parameters and comes to 1 nats. Best: LoRA(r=8, <b>): 1.01 with 256. "
        "Not drawn: 1 of 4, which came to no loss."
    )
    assert list(table.rows[1]) == ["LoRA(r=2, lr=1)", "loss is nan in update 3", "-", "-"]


def test_where_everything_failed_or_there_are_too_many_there_is_only_the_table() -> None:
    failed = dataclasses.replace(SWEEP, settings=SWEEP.settings[1:2], best="LoRA(r=2, lr=1)", parameters=1)
    for points, tables, _ in (of(failed), of(SWEEP, drawn=False)):
        assert points == []
        assert len(tables) == 1


def test_the_plot_has_two_logarithmic_axes_a_line_for_full_and_a_ring_for_the_best() -> None:
    (points,), _, _ = of(SWEEP)
    figure = of_points(points)
    assert (figure["layout"]["xaxis"]["type"], figure["layout"]["yaxis"]["type"]) == ("log", "log")
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert list(traces) == ["as declared", "learning rate", "rank", "full", "best"]
    assert traces["full"]["y"] == [1.0, 1.0]
    assert traces["full"]["x"][0] < 64 < 256 < traces["full"]["x"][1]
    assert (traces["best"]["x"], traces["best"]["y"]) == ([256], [1.01])
    markers = [traces[name]["marker"] for name in ("as declared", "learning rate", "rank")]
    assert len({marker["symbol"] for marker in markers}) == len({marker["color"] for marker in markers}) == 3


def test_a_loss_of_zero_has_a_linear_axis() -> None:
    (points,), _, _ = of(dataclasses.replace(SWEEP, full_loss=0.0))
    assert of_points(points)["layout"]["yaxis"]["type"] == "linear"


def test_names_in_the_plot_are_text_to_the_page_and_to_the_library() -> None:
    text = page(of(SWEEP)[2], "", "").partition("<script>")[0]
    assert "<b>" not in text
    assert "LoRA(r=8, \\u003cb>)" not in text, "plotly would take it for markup"
    assert "LoRA(r=8, &lt;b>)" in text


def test_markdown_says_it_in_words_and_a_table() -> None:
    lines = markdown(of(SWEEP)[2], "", "")
    assert any(line.startswith("Full trains 1,096 parameters") for line in lines)
    assert not any("mermaid" in line for line in lines)
