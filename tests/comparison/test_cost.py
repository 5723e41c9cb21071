"""What differs in two costs, and in which direction it is a regression."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from builders import a_memory

from pytest_ftcheck.comparison.comparison import Comparison
from pytest_ftcheck.comparison.cost import Cost, changes, measure_cost
from pytest_ftcheck.comparison.interleaving import compare
from pytest_ftcheck.comparison.step_time import Round
from pytest_ftcheck.run import Flops

COST = Cost(132, 32, a_memory("lora"), Flops(1000, 2000))


def changed(**parts: Any) -> Cost:
    return dataclasses.replace(COST, **parts)


def test_nothing_differs_of_what_is_the_same() -> None:
    assert changes(COST, COST) == ()


@pytest.mark.parametrize(
    ("candidate", "what", "worse"),
    [
        (changed(flops=Flops(1000, 2001)), "FLOPs", True),
        (changed(flops=Flops(1000, 1999)), "FLOPs", False),
        (changed(trainable=33), "trainable parameters", True),
        (changed(trainable=31), "trainable parameters", True),
        (changed(total=131), "parameters", True),
        (changed(memory=a_memory("lora", optimizer_bytes=a_memory("lora").optimizer_bytes + 1)), "static memory", True),
        (changed(memory=a_memory("lora", peak_bytes=a_memory("lora").peak_bytes + 1)), "peak memory", True),
        (changed(memory=a_memory("lora", peak_bytes=a_memory("lora").peak_bytes - 1)), "peak memory", False),
    ],
)
def test_one_unit_more_is_worse_and_one_less_is_not_but_for_parameters(candidate: Cost, what: str, worse: bool) -> None:
    (change,) = changes(COST, candidate)
    assert (change.what, change.worse) == (what, worse)


@pytest.mark.parametrize(("share", "worse"), [(1.005, False), (1.02, True)])
def test_an_allocators_peak_may_differ_by_a_percent(share: float, worse: bool) -> None:
    peak = 10_000_000
    a = changed(memory=a_memory("lora", peak_bytes=peak, source="allocator"))
    b = changed(memory=a_memory("lora", peak_bytes=int(share * peak), source="allocator"))
    (change,) = changes(a, b)
    assert change.worse == worse


def test_the_cost_of_a_training_is_that_of_its_run() -> None:
    from recipes import tiny_recipe

    from pytest_ftcheck.execution import execute

    recipe = tiny_recipe(eval_data=None)
    run, cost = execute(recipe, "lora", 0, 3, "cpu"), measure_cost(recipe, "lora", 0, "cpu")
    assert (cost.total, cost.trainable) == (run.parameters.total, run.parameters.trainable)
    assert (cost.memory, cost.flops) == (run.memory, run.flops)
    assert measure_cost(recipe, "lora", 0, "cpu") == cost


def test_what_got_worse_fails_whatever_the_step_time_is() -> None:
    even = Round((1.0,) * 12, (1.0,) * 12)
    step_time = compare(["lora"], lambda method, alpha: even, ("main", "this tree"), "cpu")["lora"]
    worse, better = changed(flops=Flops(1000, 2500)), changed(flops=Flops(1000, 1500))
    assert Comparison("mine", changes(COST, worse), step_time).verdict == "failed"
    assert Comparison("mine", changes(COST, better), step_time).verdict == "passed"
    lines = Comparison("mine", changes(COST, worse), step_time).lines()
    assert lines[0] == "lora: FLOPs of a step 3,000 FLOP -> 3,500 FLOP (+500)"
    assert Comparison("mine", changes(COST, better), step_time).lines()[-1].startswith("lora: FLOPs")
