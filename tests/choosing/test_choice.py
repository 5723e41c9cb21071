"""Full, LoRA, either, or too early to tell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from builders import a_pair, a_run

from pytest_ftcheck import Pair, Stakes
from pytest_ftcheck.choosing.choice import Choice
from pytest_ftcheck.errors import ComparisonError

STEPS = 400
EVALUATED = (1, 2, 5, 10, 20, 30, 50, 100, 150, 200, 300, 400)
SPREAD = (-0.001, 0.0, 0.001)


def at_rest(step: int) -> float:
    return 1.0 + math.exp(-step / 8)


def falling(step: int) -> float:
    return 0.9 + 2 * step**-0.5


def pair_of(
    full: Callable[[int], float] = at_rest,
    lora: Callable[[int], float] = at_rest,
    gap: float = 0.0,
    spread: Sequence[float] = SPREAD,
    **changes: Any,
) -> Pair:
    """Curves of constant learning rates; those of LoRA lie higher by ``gap``, one more or less than the other."""

    def run(method: str, curve: Callable[[int], float], add: float, seed: int) -> Any:
        evals = {at: curve(at) + add for at in EVALUATED}
        return a_run(method, train=(1.0,) * STEPS, evals=evals, seed=seed, **changes)

    fulls = tuple(run("full", full, 0.0, seed) for seed, _ in enumerate(spread))
    return Pair(fulls, tuple(run("lora", lora, gap + one, seed) for seed, one in enumerate(spread)))


@pytest.mark.parametrize(
    ("gap", "margin", "verdict"),
    [
        (0.05, None, "full"),
        (0.0, None, "either"),
        (-0.05, None, "lora"),
        # Not worse by what matters, and perhaps better.
        (-0.0095, None, "lora"),
        (0.05, 0.1, "either"),
        (0.01, 0.001, "full"),
        (-0.05, 0.1, "either"),
        (0.0, 0.0, "too early to tell"),
        (0.01, None, "too early to tell"),
    ],
)
def test_curves_at_rest_are_told_apart_by_what_matters(gap: float, margin: float | None, verdict: str) -> None:
    choice = pair_of(gap=gap).decision(margin=margin)
    assert choice.verdict == verdict
    assert choice.run_to is None
    assert math.isnan(choice.risk) == (verdict not in ("full", "lora"))


def test_the_reason_begins_with_the_numbers() -> None:
    assert repr(pair_of(gap=0.05).decision()) == (
        "full: full leads by 0.05 nats at step 400 (LoRA minus full +0.04598 to +0.05402, 3 paired seeds); margin 0.01"
    )


def test_where_the_seeds_scatter_it_says_how_many_would_do() -> None:
    choice = pair_of(gap=0.02, spread=(-0.004, 0.0, 0.004)).decision()
    assert (choice.verdict, choice.run_to) == ("too early to tell", None)
    assert choice.seeds is not None
    assert 4 <= choice.seeds <= 10
    assert f"about {choice.seeds} seeds would tell" in choice.reason


def test_where_no_number_of_seeds_would_do_it_says_none() -> None:
    assert pair_of(gap=0.01).decision(margin=0.01).seeds is None


@pytest.mark.parametrize(
    ("full", "lora", "which"), [(falling, at_rest, "full"), (at_rest, falling, "LoRA"), (falling, falling, "full and")]
)
def test_as_long_as_an_arm_falls_it_is_too_early_however_clear_it_looks(
    full: Callable[[int], float], lora: Callable[[int], float], which: str
) -> None:
    choice = pair_of(full, lora, gap=0.3).decision()
    assert choice.verdict == "too early to tell"
    assert choice.run_to is not None
    assert choice.run_to > STEPS
    assert f"{which}" in choice.reason
    assert math.isnan(choice.risk)


def test_the_step_to_run_to_is_where_the_law_says_that_the_curve_is_at_rest() -> None:
    choice = pair_of(falling, at_rest).decision()
    law = choice.full.law
    assert law is not None
    assert not law.refused
    assert choice.run_to == pytest.approx(law.step_of_decrease(0.005), rel=0.1)


def test_before_the_horizon_of_its_runs_the_step_to_run_to_is_the_horizon() -> None:
    choice = pair_of(falling, falling).decision(at=30)
    assert (choice.verdict, choice.run_to, choice.at) == ("too early to tell", STEPS, 30)


def test_what_comes_after_the_step_is_not_looked_at() -> None:
    same = dict.fromkeys(EVALUATED, 1.0)
    other = {at: 1.0 if at <= 100 else 5.0 for at in EVALUATED}
    pairs = []
    for evals in (same, other):
        arms = [[a_run(m, train=(1.0,) * STEPS, evals=evals, seed=s) for s in range(2)] for m in ("full", "lora")]
        pairs.append(Pair(tuple(arms[0]), tuple(arms[1])))
    assert pairs[0].decision(at=100) == pairs[1].decision(at=100)


def test_an_adapter_at_the_known_floor_suffices_though_full_still_falls() -> None:
    pair = pair_of(lambda step: 1.0 + 2 * step**-0.5, at_rest)
    assert pair.decision().verdict == "too early to tell"
    assert pair.decision(floor=1.0).verdict == "lora"
    assert pair.decision(floor=0.5).verdict == "too early to tell"


def test_full_at_the_known_floor_says_nothing_of_an_adapter_that_still_falls() -> None:
    pair = pair_of(at_rest, lambda step: 1.0 + 2 * step**-0.5)
    assert pair.decision(floor=1.0).verdict == "too early to tell"


# The same gap of 0.02 nats, of 20 points a nat: 0.4 points. By the seed, either $500 a month or $5M for two of them.
HOURS: dict[str, float] = dict(gpu_hour=2.0, full_hours=6.0, lora_hours=1.5, points_per_nat=20, trainings=20)


@pytest.mark.parametrize(("value_per_point", "verdict"), [(250, "lora"), (2_500_000, "full")])
def test_the_same_gap_is_worth_it_or_not(value_per_point: float, verdict: str) -> None:
    choice = pair_of(gap=0.02).decision(stakes=Stakes(**HOURS, value_per_point=value_per_point))
    assert choice.verdict == verdict
    assert choice.break_even == pytest.approx(20 * 4.5 * 2 / (20 * value_per_point))
    assert "full pays from +" in choice.reason
    assert 0 < choice.risk < 0.01


def test_at_the_break_even_more_seeds_are_needed() -> None:
    stakes = Stakes(**HOURS, value_per_point=20 * 4.5 * 2 / 20 / 0.0205)
    choice = pair_of(gap=0.02).decision(stakes=stakes)
    assert (choice.verdict, choice.margin) == ("too early to tell", 0.0)


def test_the_risk_is_that_of_students_distribution() -> None:
    """t = 0.02 / (0.01 / sqrt 3) = 3.464 with 2 degrees of freedom."""
    choice = pair_of(gap=0.02, spread=(-0.01, 0.0, 0.01)).decision(margin=0.0, stakes=None)
    assert choice.verdict == "too early to tell"
    clear = pair_of(gap=0.08, spread=(-0.01, 0.0, 0.01)).decision(margin=0.0)
    assert clear.verdict == "full"
    t = 0.08 / (0.01 / math.sqrt(3))
    assert clear.risk == pytest.approx(0.5 * (1 - t / math.sqrt(2 + t * t)))


def test_one_seed_other_batches_and_a_loss_that_is_not_finite_decide_nothing() -> None:
    with pytest.raises(ComparisonError, match=r"^1 seed shows no spread; allowed: at least 2"):
        pair_of(spread=(0.0,)).decision()
    pair = pair_of()
    other = dataclasses.replace(pair.lora, loss=dataclasses.replace(pair.lora.loss, batches="others"))
    with pytest.raises(ComparisonError, match=r"^the arms saw different batches"):
        Pair(pair.fulls, (other, *pair.loras[1:])).decision()
    with pytest.raises(ComparisonError, match=r"^a loss at step 400 is not finite: full nan, LoRA nan"):
        pair_of(lambda step: math.nan, lambda step: math.nan).decision()


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", True])
def test_a_margin_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ComparisonError, match=r"^decision\(margin=.*\); allowed: a number of nats of at least 0$"):
        pair_of().decision(margin=value)


def test_a_floor_that_is_none_is_refused_and_a_step_without_a_loss() -> None:
    with pytest.raises(ComparisonError, match=r"^decision\(floor=nan\); allowed: a number of nats$"):
        pair_of().decision(floor=math.nan)
    with pytest.raises(ComparisonError, match="no evaluation at step 33; there is one at steps"):
        pair_of().decision(at=33)


def test_a_choice_is_a_record() -> None:
    for pair in (pair_of(gap=0.05), pair_of(falling, falling), a_pair({10: (0.5, 0.5, 0.5)})):
        choice = pair.decision(stakes=Stakes(**HOURS, value_per_point=250))
        assert repr(Choice.from_json(choice.to_json())) == repr(choice)


def with_source(pair: Pair, losses: dict[str, float]) -> Pair:
    """The pair with these losses on source data from the beginning to the end."""

    def of(run: Any) -> Any:
        source = ((0, 1.0), *((at, losses[run.method]) for at in EVALUATED))
        return dataclasses.replace(run, loss=dataclasses.replace(run.loss, source=source))

    return Pair(tuple(map(of, pair.fulls)), tuple(map(of, pair.loras)))


def test_the_choice_may_differ_where_the_model_must_stay_general() -> None:
    """The seed's question: internal code, or general code."""
    pair = with_source(pair_of(gap=0.05), {"full": 1.5, "lora": 1.1})
    assert pair.decision().verdict == "full"
    general = pair.decision(data="source")
    assert (general.verdict, general.gap.full, general.gap.lora) == ("lora", 1.5, 1.1)


def test_data_that_is_not_there_decides_nothing() -> None:
    with pytest.raises(ComparisonError, match=r"^decision\(data='source'\): no loss on source data; give the recipe"):
        pair_of().decision(data="source")
    with pytest.raises(ComparisonError, match=r"^decision\(data='test'\); allowed: 'eval', 'source'$"):
        pair_of().decision(data="test")  # type: ignore[arg-type]
