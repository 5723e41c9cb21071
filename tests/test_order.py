"""Which arm has the lower loss, and when that may be said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import pytest
from builders import FULL_FORM, LORA_FORM, a_pair, a_run

from pytest_ftcheck import Pair
from pytest_ftcheck.order import CONFIDENCE, LossOrder, loss_order

# Differences of LoRA minus full over three seeds, with a spread far below their mean.
FULL_LEADS, LORA_LEADS = (0.25, 0.2501, 0.2499), (-0.125, -0.1251, -0.1249)
UNCLEAR = (-0.25, 0.25, 0.03)


def order_of(gaps: Mapping[int, Sequence[float]], at: int, margin: float = 0.0) -> LossOrder:
    return a_pair(gaps).loss_order(at=at, margin=margin)


def with_batches(pair: Pair, batches: str) -> Pair:
    """The pair with other batches in the LoRA arm of its last seed."""
    last = pair.loras[-1]
    other = dataclasses.replace(last, loss=dataclasses.replace(last.loss, batches=batches))
    return Pair(pair.fulls, (*pair.loras[:-1], other))


@pytest.mark.parametrize(
    ("gaps", "winner"),
    [
        (FULL_LEADS, "full"),
        (LORA_LEADS, "lora"),
        (UNCLEAR, "undecided"),
        ((0.0, 0.0, 0.0), "undecided"),
        (tuple(-gap for gap in UNCLEAR), "undecided"),
    ],
)
def test_the_arm_with_the_lower_loss_wins_where_the_seeds_agree(gaps: tuple[float, ...], winner: str) -> None:
    assert order_of({100: gaps}, at=100).winner == winner


# With two seeds that differ by 2 s, the interval's half width is 31.82 s.
@pytest.mark.parametrize(("mean", "winner"), [(31.83, "full"), (31.81, "undecided"), (-31.83, "lora")])
def test_an_arm_wins_only_where_its_lead_is_beyond_the_interval(mean: float, winner: str) -> None:
    assert order_of({100: (mean - 1, mean + 1)}, at=100).winner == winner


@pytest.mark.parametrize("gaps", [FULL_LEADS, UNCLEAR, (0.1, 0.3), (0.5, -0.5, 0.1, 0.2, 0.3, 0.4, 0.05, 0.01)])
def test_the_interval_is_students(gaps: tuple[float, ...]) -> None:
    from scipy import stats

    order = order_of({100: gaps}, at=100)
    low, high = stats.t.interval(CONFIDENCE, len(gaps) - 1, loc=sum(gaps) / len(gaps), scale=stats.sem(gaps))
    assert order.ci == pytest.approx((low, high), rel=1e-9, abs=1e-12)
    assert order.gap == pytest.approx(sum(gaps) / len(gaps))


@pytest.mark.parametrize(
    ("margin", "winner"), [(0.0, "full"), (0.12, "full"), (0.125, "undecided"), (0.13, "undecided")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_arm_wins_only_by_more_than_the_margin(margin: float, winner: str, sign: int) -> None:
    order = order_of({100: (sign * 0.125,) * 3}, at=100, margin=margin)
    assert order.winner == (winner if sign > 0 or winner == "undecided" else "lora")
    assert order.margin == margin


def test_a_lead_that_is_clear_but_within_the_margin_says_so() -> None:
    order = order_of({100: (0.125,) * 3}, at=100, margin=0.25)
    expected = "undecided: at step 100 full leads by 0.125 (interval 0.125 to 0.125, margin 0.25, 3 paired seeds)"
    assert str(order) == expected


@pytest.mark.parametrize("gap", [0.25, -0.25])
def test_one_seed_decides_nothing(gap: float) -> None:
    order = order_of({100: (gap,)}, at=100)
    assert order.winner == "undecided"
    assert order.ci == (-math.inf, math.inf)
    assert "one seed shows no spread; use 3 or more (--ftcheck-seeds=3)" in order.reason
    assert order_of({100: (gap, gap)}, at=100).winner != "undecided"


@pytest.mark.parametrize(
    "gaps",
    [
        (math.nan, 0.25, 0.25),
        (math.nan, math.nan, math.nan),
        (math.inf, 0.25, 0.25),
        (-math.inf, -0.25, -0.25),
        (math.nan,),
    ],
)
def test_a_loss_that_is_not_finite_decides_nothing(gaps: tuple[float, ...]) -> None:
    order = order_of({100: gaps}, at=100)
    assert order.winner == "undecided"
    assert math.isnan(order.gap)
    assert order.reason.startswith("undecided: a loss at step 100 is not finite (full 1, LoRA ")


@pytest.mark.parametrize(
    ("full", "lora"), [((math.inf, math.inf), (math.inf, math.inf)), ((math.inf, 1), (1, math.inf))]
)
def test_two_arms_that_diverged_decide_nothing(full: tuple[float, ...], lora: tuple[float, ...]) -> None:
    fulls = [a_run("full", seed=seed, evals={100: loss}) for seed, loss in enumerate(full)]
    loras = [a_run("lora", seed=seed, evals={100: loss}) for seed, loss in enumerate(lora)]
    order = loss_order(fulls, loras, at=100)
    assert order.winner == "undecided"
    assert order.reason == "undecided: a loss at step 100 is not finite (full inf, LoRA inf)"


def test_a_loss_that_is_not_finite_elsewhere_leaves_the_verdict_and_the_crossover() -> None:
    order = order_of({10: LORA_LEADS, 50: (math.nan,) * 3, 100: FULL_LEADS, 200: FULL_LEADS}, at=200)
    assert order.winner == "full"
    assert 10 < (order.crossover or 0) < 100


def test_an_early_lead_that_is_reversed_later_is_undecided_and_names_the_crossover() -> None:
    order = order_of({30: LORA_LEADS, 60: (-0.001, 0.001, 0.0), 250: FULL_LEADS}, at=30)
    assert order.winner == "undecided"
    assert order.gap == pytest.approx(-0.125)
    assert order.crossover is not None
    assert 30 < order.crossover < 250
    assert order.reason == (
        "undecided: at step 30 LoRA leads by 0.125 (interval 0.1246 to 0.1254, 3 paired seeds); "
        f"the crossover is at step {order.crossover}, and at step 250 full leads by 0.25"
    )


@pytest.mark.parametrize("later", [LORA_LEADS, UNCLEAR])
def test_an_early_lead_that_is_not_reversed_is_decided(later: tuple[float, ...]) -> None:
    assert order_of({30: LORA_LEADS, 250: later}, at=30).winner == "lora"


def test_a_reversal_that_is_not_clear_any_more_at_the_horizon_counts_all_the_same() -> None:
    order = order_of({30: LORA_LEADS, 60: FULL_LEADS, 250: UNCLEAR}, at=30)
    assert order.winner == "undecided"
    assert order.crossover is not None
    assert 30 < order.crossover < 60


def test_a_reversal_before_the_horizon_leaves_the_horizon_decided() -> None:
    order = order_of({30: LORA_LEADS, 250: FULL_LEADS}, at=250)
    assert order.winner == "full"
    assert order.reason == (
        "at step 250 full leads by 0.25 (interval 0.2496 to 0.2504, 3 paired seeds); "
        f"the crossover is at step {order.crossover}"
    )


def test_a_lead_that_is_lost_and_won_back_is_decided() -> None:
    order = order_of({30: LORA_LEADS, 60: FULL_LEADS, 250: LORA_LEADS}, at=30)
    assert order.winner == "lora"
    assert order.crossover is not None
    assert 60 < order.crossover < 250


def test_a_reversal_within_the_margin_does_not_count() -> None:
    gaps = {30: (-0.5,) * 3, 250: (0.125,) * 3}
    assert order_of(gaps, at=30, margin=0.1).winner == "undecided"
    assert order_of(gaps, at=30, margin=0.2).winner == "lora"


@pytest.mark.parametrize(
    ("gaps", "crossover"),
    [
        ({10: -1, 1000: 1}, 100),
        ({10: 1, 1000: -1}, 100),
        ({10: -3, 1000: 1}, 316),  # three quarters of the way in log(step)
        ({10: -1, 1000: 3}, 32),
        ({1: -1, 100: 1, 10_000: -1}, 1000),  # the last of two
        ({10: -1, 100: -1, 1000: 1}, 316),
        ({10: -1, 100: 1, 1000: 1}, 32),
        ({1: -1, 100: 1}, 10),
        ({0: -1, 10: -1, 1000: 1}, 100),  # before the first update there is no logarithm
    ],
)
def test_the_crossover_is_interpolated_over_the_logarithm_of_the_step(gaps: dict[int, float], crossover: int) -> None:
    order = order_of({step: (float(gap),) * 3 for step, gap in gaps.items()}, at=max(gaps))
    assert order.crossover == crossover


def test_the_crossover_passes_through_measurements_that_are_not_clear() -> None:
    # At step 100 LoRA is still ahead in the mean: the curves cross after it.
    order = order_of({10: (-1.0,) * 3, 100: (-1.5, 1.0, 0.25 - 0.5), 1000: (1.0,) * 3}, at=1000)
    assert order.crossover is not None
    assert 100 < order.crossover < 316


@pytest.mark.parametrize(
    "gaps",
    [
        {10: FULL_LEADS, 100: FULL_LEADS},
        {10: LORA_LEADS, 100: LORA_LEADS},
        {10: UNCLEAR, 100: FULL_LEADS},
        {10: FULL_LEADS, 100: tuple(-gap for gap in UNCLEAR)},
        {0: LORA_LEADS, 100: FULL_LEADS},
        {100: FULL_LEADS},
    ],
)
def test_without_a_clear_change_of_the_lead_there_is_no_crossover(gaps: dict[int, tuple[float, ...]]) -> None:
    order = order_of(gaps, at=100)
    assert order.crossover is None
    assert "crossover" not in order.reason


def test_arms_that_saw_different_batches_are_undecided() -> None:
    pair = a_pair({100: FULL_LEADS})
    assert with_batches(pair, "the batches").loss_order().winner == "full"
    order = with_batches(pair, "other batches").loss_order()
    assert order.winner == "undecided"
    assert order.reason == (
        "undecided: the arms saw different batches, so their losses are not paired; at step 100 full leads by 0.25"
    )


def test_arms_of_different_seeds_are_undecided() -> None:
    fulls = [a_run("full", seed=seed, evals={3: 1.0}) for seed in (0, 1)]
    loras = [a_run("lora", seed=seed, evals={3: 2.0}) for seed in (0, 2)]
    assert loss_order(fulls, loras, at=3).winner == "undecided"


def test_arms_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        loss_order([a_run(seed=0), a_run(seed=1)], [a_run("lora", seed=0)], at=3)


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        (FULL_LEADS, "at step 100 full leads by 0.25 (interval 0.2496 to 0.2504, 3 paired seeds)"),
        (LORA_LEADS, "at step 100 LoRA leads by 0.125 (interval 0.1246 to 0.1254, 3 paired seeds)"),
        (UNCLEAR, "undecided: at step 100 full leads by 0.01 (interval -0.9977 to 1.018, 3 paired seeds)"),
        (
            tuple(-gap for gap in UNCLEAR),
            "undecided: at step 100 LoRA leads by 0.01 (interval -0.9977 to 1.018, 3 paired seeds)",
        ),
        ((0.0, 0.0), "undecided: at step 100 both arms have the same loss (interval 0 to 0, 2 paired seeds)"),
    ],
)
def test_the_reason_is_told_as_the_arm_that_leads_sees_it(gaps: tuple[float, ...], text: str) -> None:
    assert order_of({100: gaps}, at=100).reason == text


def test_the_interval_of_the_record_stays_that_of_lora_minus_full() -> None:
    low, high = order_of({100: LORA_LEADS}, at=100).ci
    assert low < -0.125 < high < 0


def test_a_step_without_a_measurement_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no evaluation at step 31; there is one at steps 30, 250$"):
        order_of({30: LORA_LEADS, 250: FULL_LEADS}, at=31)


def test_gaps_are_taken_at_every_evaluation() -> None:
    order = order_of({30: LORA_LEADS, 60: UNCLEAR, 250: FULL_LEADS}, at=60)
    assert [gap.step for gap in order.gaps] == [30, 60, 250]
    assert [gap.full for gap in order.gaps] == [1.0, 1.0, 1.0]
    assert [gap.lora for gap in order.gaps] == pytest.approx([0.875, 1.01, 1.25])


def test_without_evaluations_gaps_are_taken_at_doubling_steps_and_the_one_that_was_asked_for() -> None:
    fulls = [a_run("full", seed=seed, train=(2.0,) * 50) for seed in (0, 1)]
    loras = [a_run("lora", seed=seed, train=(3.0,) * 50) for seed in (0, 1)]
    order = loss_order(fulls, loras, at=30)
    assert [gap.step for gap in order.gaps] == [1, 2, 4, 8, 16, 30, 32, 50]
    assert {(gap.full, gap.lora, gap.mean) for gap in order.gaps} == {(2.0, 3.0, 1.0)}
    assert order.winner == "full"


@pytest.mark.parametrize("steps", [1, 2, 64])
def test_without_evaluations_the_horizon_is_measured_once(steps: int) -> None:
    fulls, loras = ([a_run(method, seed=seed, train=(2.0,) * steps) for seed in (0, 1)] for method in ("full", "lora"))
    measured = [gap.step for gap in loss_order(fulls, loras, at=steps).gaps]
    assert measured == [2**i for i in range(steps.bit_length())]


def test_an_order_states_its_seeds_and_what_was_declared() -> None:
    order = order_of({100: FULL_LEADS}, at=100)
    assert order.seeds == (0, 1, 2)
    assert order.declarations == (FULL_FORM.label, LORA_FORM.label)
    assert order.winner.subject is order


@pytest.mark.parametrize("gaps", [FULL_LEADS, UNCLEAR, (0.25,)])
def test_an_order_comes_back_equal_from_json(gaps: tuple[float, ...]) -> None:
    order = order_of({30: tuple(-gap for gap in gaps), 250: gaps}, at=30)
    again = LossOrder.from_json(order.to_json())
    assert again == order
    assert str(again) == str(order)
