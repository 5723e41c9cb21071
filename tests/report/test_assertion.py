"""Why a plain ``assert`` on one of our numbers failed, in words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from builders import FULL_FORM, LORA_FORM, a_memory, a_pair, a_run, tensors

from pytest_ftcheck import Pair
from pytest_ftcheck.explained import Count, Ratio, Winner
from pytest_ftcheck.report.assertion import explain
from pytest_ftcheck.run import Flops, Parameters
from pytest_ftcheck.theory.parameters import ModuleForm, ParameterForm

LORA = Parameters(tensors("lora"), LORA_FORM)


def explained(op: str, left: object, right: object) -> list[str]:
    lines = explain(op, left, right)
    assert lines is not None
    return lines


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 2),
        ("full", "lora"),
        (1.5, LORA),
        (Count(1, "things", "no record"), 2),
        (Ratio(1.0, "ratio", None), 2.0),
        (Ratio(1.0, "ratio", LORA), 2.0),
        (Winner("full", None), "lora"),
    ],
)
def test_what_is_not_ours_is_left_to_pytest(left: object, right: object) -> None:
    assert explain("==", left, right) is None


def test_a_wrong_expectation_is_told_with_the_rank_that_it_would_fit() -> None:
    assert explained("==", LORA.trainable, 64) == [
        "32 == 64 (trainable parameters)",
        "LoRA(r=2, alpha=4, c_attn, lr=0.01) declares 32 trainable of 132",
        "the model is as declared in every module, so the expected number is not",
        "64 would be r=4 on the same modules (declared: r=2)",
    ]


def test_the_expected_number_may_be_on_the_left() -> None:
    lines = explained("==", 64, LORA.trainable)
    assert lines[0] == "64 == 32 (trainable parameters)"
    assert lines[-1] == "64 would be r=4 on the same modules (declared: r=2)"


@pytest.mark.parametrize("expected", [0, -16, 31, 33, 3.0, "32", None, range(5)])
def test_a_number_that_fits_no_rank_gets_no_rank(expected: object) -> None:
    assert explained("==", LORA.trainable, expected)[-1].startswith("the model is as declared in every module")


@pytest.mark.parametrize(("expected", "rank"), [(16, 1), (48, 3), (16 * 676, 676)])
def test_a_number_that_fits_a_rank_gets_it(expected: int, rank: int) -> None:
    line = explained("==", LORA.trainable, expected)[-1]
    assert line == f"{expected:,} would be r={rank} on the same modules (declared: r=2)"


def test_what_trains_at_any_rank_is_not_divided_by_the_rank() -> None:
    # 40 parameters of a trained copy of wte, and 16 for each unit of rank.
    copied = ModuleForm("wte", total=80, trainable=40, base=40)
    form = ParameterForm("LoRA with a copy", 172, 72, (copied, LORA_FORM.modules[1]))
    seen = (*tensors("lora"), dataclasses.replace(tensors("full")[0], name="wte.modules_to_save.default.weight"))
    parameters = Parameters(seen, form)
    assert explained("==", parameters.trainable, 40 + 16 * 5)[-1].startswith("120 would be r=5 ")
    assert "would be" not in explained("==", parameters.trainable, 16 * 5)[-1]


def test_other_counts_than_of_what_trains_get_no_rank() -> None:
    assert "would be" not in explained("==", LORA.total, 64)[-1]
    assert "would be" not in explained("==", LORA.frozen, 64)[-1]


def test_ranks_that_differ_between_modules_get_no_rank() -> None:
    second = dataclasses.replace(LORA_FORM.modules[1], name="h.1.attn.c_attn", rank=4, total=124, trainable=64)
    form = ParameterForm("two ranks", 256, 96, (*LORA_FORM.modules, second))
    more = [dataclasses.replace(t, module="h.1.attn.c_attn") for t in tensors("lora")[1:]]
    widened = [dataclasses.replace(t, shape=(*t.shape[:-1], 2 * t.shape[-1])) if "lora_" in t.name else t for t in more]
    lines = explained("==", Parameters((*tensors("lora"), *widened), form).trainable, 48)
    assert lines[-1].startswith("the model is as declared in every module")


def test_a_model_that_is_not_as_declared_is_told_by_module() -> None:
    parameters = Parameters(tensors("lora", wte={"trainable": True}), LORA_FORM)
    assert explained("==", parameters.trainable, 32) == [
        "72 == 32 (trainable parameters)",
        "LoRA(r=2, alpha=4, c_attn, lr=0.01) declares 32 trainable of 132",
        "40 trainable instead of 0 in wte: the base is not frozen",
    ]


def test_without_a_closed_form_that_is_said() -> None:
    lines = explained("==", Parameters(tensors("lora")).total, 100)
    assert lines == ["132 == 100 (parameters)", "no closed form is known for this method"]


def test_large_counts_are_grouped_and_other_values_shown_as_they_are() -> None:
    form = dataclasses.replace(FULL_FORM, total=10**9, trainable=10**9)
    big = Parameters((dataclasses.replace(tensors()[0], shape=(1000, 1000, 1000)),), form)
    assert explained("==", big.total, 999_999_999)[0] == "1,000,000,000 == 999,999,999 (parameters)"
    assert explained("==", big.total, True)[0] == "1,000,000,000 == True (parameters)"
    assert explained("==", big.total, "1e9")[0] == "1,000,000,000 == 1e9 (parameters)"
    assert explained("==", big.total, 1e9 + 1)[0].startswith("1,000,000,000 == 1")


@pytest.mark.parametrize("kind", ["static", "peak"])
def test_a_memory_ratio_is_told_with_both_breakdowns(kind: Any) -> None:
    pair = Pair(
        (a_run("full", memory=a_memory("full", peak_bytes=3000, activations_bytes=0)),),
        (a_run("lora", memory=a_memory("lora", peak_bytes=1000, peak_phase="backward")),),
    )
    value = {"static": "1.754", "peak": "3"}[kind]
    assert explained(">", pair.memory_ratio(kind), 3.9) == [
        f"{value} > 3.9 ({kind} memory of full over LoRA)",
        "full: peak 3 kB in optimizer; weights 400 B, gradients 400 B, optimizer 800 B, activations 0 B",
        "LoRA: peak 1 kB in backward; weights 528 B, gradients 128 B, optimizer 256 B, activations 700 B",
    ]


def test_a_time_ratio_is_told_with_the_times_and_not_with_memory() -> None:
    fulls = tuple(a_run("full", seed=seed, samples_s=(time,)) for seed, time in enumerate((0.5, 0.25)))
    loras = tuple(a_run("lora", seed=seed, samples_s=(time,)) for seed, time in enumerate((1.5, math.nan)))
    lines = explained("<", Pair(fulls, loras).time_ratio, 0.1)
    assert lines[1:] == ["full: a step takes 500 ms, 250 ms", "LoRA: a step takes 1.5 s, -"]


def test_a_flops_ratio_is_told_with_the_operations_of_both_arms() -> None:
    muon = Flops(forward=110, backward=120, optimizer=1000)
    pair = Pair((a_run("full", flops=Flops(2_000_000, 4_000_000)),), (a_run("lora", flops=muon),))
    assert explained("==", pair.flops_ratio, 1.5) == [
        "4878 == 1.5 (floating-point operations of full over LoRA)",
        "full: 6,000,000 a step; forward 2,000,000, backward 4,000,000",
        "LoRA: 1,230 a step; forward 110, backward 120, optimizer 1,000",
    ]


def test_a_ratio_against_approx_shows_both() -> None:
    line = explained("==", a_pair().memory_ratio("static"), pytest.approx(3.9, abs=0.1))[0]
    assert line == "1.754 == 3.9 ± 0.1 (static memory of full over LoRA)"


@pytest.mark.parametrize(
    ("value", "other", "line"),
    [
        (1.5, 3.9, "1.5 == 3.9"),
        (3.9, 3.9, "3.9 == 3.9"),
        (3.90001, 3.9, "3.90001 == 3.9"),
        (0.1 + 0.2, 0.3, "0.30000000000000004 == 0.29999999999999999"),
        (4.0, 4, "4 == 4"),
        (math.nan, math.nan, "nan == nan"),
        (math.nan, 3.9, "nan == 3.9"),
    ],
)
def test_different_numbers_never_look_the_same(value: float, other: float, line: str) -> None:
    assert explained("==", Ratio(value, "ratio", a_pair()), other)[0] == f"{line} (ratio)"


def test_a_winner_is_told_with_its_reason_and_both_curves() -> None:
    pair = a_pair({30: (-0.5, -0.5), 60: (0.0, 0.0), 250: (1.0, 1.0)})
    order = pair.loss_order(at=30)
    assert explained("==", order.winner, "lora") == [
        f"'undecided' == 'lora': {order.reason}",
        "full ▅▅▅ 1 -> 1  Full(lr=0.001)",
        "LoRA ▁▅█ 0.5 -> 2  LoRA(r=2, alpha=4, c_attn, lr=0.01)",
        "steps 30, 60, 250; seeds 0, 1",
    ]


@pytest.mark.parametrize(
    ("op", "left", "right", "start"),
    [
        ("==", "lora", None, "'lora' == 'full': at step 10 full leads"),
        ("!=", None, "full", "'full' != 'full': at step 10 full leads"),
        ("in", None, ("lora", "undecided"), "'full' in ('lora', 'undecided'): at step 10 full leads"),
        ("is", None, None, "'full' is 'full': "),
    ],
)
def test_a_winner_is_shown_with_what_it_was_compared_with(op: str, left: Any, right: Any, start: str) -> None:
    winner = a_pair().loss_order().winner
    lines = explained(op, winner if left is None else left, winner if right is None else right)
    assert lines[0].startswith(start)


def test_a_diverged_arm_is_seen_in_its_curve() -> None:
    order = a_pair({30: (0.0, 0.0), 250: (math.nan, math.nan)}).loss_order(at=250)
    lines = explained("==", order.winner, "full")
    assert lines[0].startswith("'undecided' == 'full': undecided: a loss at step 250 is not finite")
    assert lines[2].startswith("LoRA ▁x 1 -> nan")
