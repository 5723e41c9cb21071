"""What a report says of a session, whatever it is written as."""

from __future__ import annotations

import dataclasses
import math

from builders import a_pair, a_run

from pytest_ftcheck import Pair, Run
from pytest_ftcheck.checks.check import Finding
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.report.document.blocks import Bars, Block, Curves, Heading, Lines, Table
from pytest_ftcheck.report.document.contents import FIGURES, contents
from pytest_ftcheck.report.document.findings import Findings

STEPS = (1, 10, 30, 50, 100)


def findings(*runs: Run, **records: list[str]) -> Findings:
    return Findings({"runs": [run.to_json() for run in runs], **records}, "2 executed: 2 passed", (), "today", "0.1.0")


def a_long_pair(**changes: object) -> Pair:
    """Full falls behind until step 30, and leads by 0.25 nats in the end, when the schedule is over."""
    gaps = {at: (-0.1, -0.101, -0.099) if at <= 30 else (0.25, 0.251, 0.249) for at in STEPS}
    rates = [1e-3] * 90 + [1e-5] * 10
    return a_pair(gaps, train=(1.0,) * 100, group_lr=rates, **changes)


def of(kind: type, blocks: list[Block]) -> list[object]:
    return [block for block in blocks if isinstance(block, kind)]


def texts(blocks: list[Block]) -> list[str]:
    return [line for block in blocks if isinstance(block, Lines) for line in block.lines]


def test_a_recipe_has_its_decision_its_table_and_its_figures() -> None:
    pair = a_long_pair()
    blocks = contents(findings(*pair.fulls, *pair.loras))
    assert texts(blocks)[0] == "2 executed: 2 passed"
    assert any(line.startswith("Full or LoRA r=2? full: full leads by 0.25 nats") for line in texts(blocks))
    assert any("at step 30 LoRA leads by 0.1" in line for line in texts(blocks)), "what step 30 would have said"
    (curves,) = of(Curves, blocks)
    assert isinstance(curves, Curves)
    assert [curve.name for curve in curves.curves] == ["full", "LoRA r=2"]
    assert list(curves.curves[1].steps) == list(STEPS)
    assert (curves.curves[1].low[-1], curves.curves[1].high[-1]) == (1.249, 1.251)
    assert [text for _, text in curves.marks] == ["step 30", "horizon", "crossover"]
    (bars,) = of(Bars, blocks)
    assert isinstance(bars, Bars)
    assert dict(bars.parts)["optimizer"] == [800, 256]
    assert bars.told.startswith("full: 2 kB in optimizer; not predicted.")
    tables = [table for table in blocks if isinstance(table, Table)]
    assert ["trainable", "100", "32"] in [list(row) for row in tables[0].rows]
    assert ["wte", "40 of 40", "0 of 40"] in [list(row) for row in tables[1].rows]


def test_a_run_alone_a_single_seed_and_no_run_at_all_are_told_of_as_they_are() -> None:
    alone = contents(findings(a_run("lora", seed=0)))
    assert not any("Full or" in line for line in texts(alone))
    single = a_long_pair()
    blocks = contents(findings(single.full, single.lora))
    assert any("no decision: 1 seed shows no spread" in line for line in texts(blocks))
    assert texts(contents(findings())) == ["2 executed: 2 passed"]


def test_a_loss_that_is_not_finite_is_told_and_drawn_as_a_gap() -> None:
    pair = a_long_pair(full_loss=math.nan)
    blocks = contents(findings(*pair.fulls, *pair.loras))
    assert any("not compared (full, seed 0: evaluation loss is nan" in line for line in texts(blocks))


def test_deviations_are_told_once_for_each_run() -> None:
    pair = a_long_pair(retried="batch_size 4 -> 2")
    lines = [line for line in texts(contents(findings(*pair.fulls))) if "another batch" in line]
    assert len(lines) == 3


def test_failed_checks_have_cause_and_remedy() -> None:
    finding = Finding("3 of 4 labels are shifted twice", "the collator shifts them", "let the model shift them")
    failed = Verdict("labels-shifted-once", "labels", "full", "labels are shifted once", "failed", (finding,))
    passed = dataclasses.replace(failed, status="passed", findings=())
    blocks = contents(findings(verdicts=[failed.to_json(), passed.to_json()]))
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings == ["Checks", "labels-shifted-once (full): failed"]
    assert "  likely cause: the collator shifts them" in texts(blocks)
    assert "  remedy: let the model shift them" in texts(blocks)


def test_of_many_recipes_the_first_have_figures_and_all_have_tables() -> None:
    runs = [a_run(seed=0, recipe=f"recipe {number:03}") for number in range(FIGURES + 3)]
    blocks = contents(findings(*runs))
    assert len(of(Curves, blocks)) == FIGURES
    assert len([b for b in of(Table, blocks) if isinstance(b, Table) and b.caption == "The run"]) == FIGURES + 3
    assert f"Figures are drawn of the first {FIGURES} of {FIGURES + 3} recipes." in texts(blocks)
