"""The three gates decide as their limits say, on both sides of every limit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pytest_ftcheck.baseline.decision import FAILED, PASSED, UNSTABLE, Decision
from pytest_ftcheck.baseline.statistics import loss_not_worse, losses_equal, more_pairs, step_time
from pytest_ftcheck.errors import ComparisonError

# Twelve pairs that are symmetric around 0, with a spread of one.
SHAPE = (-1.6, -1.1, -0.8, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 0.8, 1.1, 1.6)
SEEDS = (-1.2, -0.6, 0.0, 0.6, 1.2)


def pairs(ratio: float, spread: float) -> list[float]:
    return [math.log(ratio) + spread * one for one in SHAPE]


def seeds(gap: float, spread: float) -> list[float]:
    return [gap + spread * one for one in SEEDS]


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [
        (1.0, 0.01, PASSED),
        (0.8, 0.01, PASSED),
        (1.05, 0.01, FAILED),
        (1.03, 0.001, FAILED),
        (1.019, 0.001, PASSED),
        (1.0, 0.2, UNSTABLE),
        (1.05, 0.1, UNSTABLE),
        (1.5, 0.1, FAILED),
        (0.7, 0.1, PASSED),
    ],
)
def test_step_time(ratio: float, spread: float, verdict: str) -> None:
    decision = step_time(pairs(ratio, spread))
    assert decision.verdict == verdict, str(decision)
    assert math.exp(decision.interval.estimate) == pytest.approx(ratio)


def test_a_pass_above_the_margin_is_close() -> None:
    assert step_time(pairs(1.025, 0.01)).close
    assert step_time(pairs(1.025, 0.01)).verdict == PASSED
    assert not step_time(pairs(1.0, 0.01)).close
    assert not step_time(pairs(1.05, 0.01)).close


def test_more_pairs_are_wanted_until_one_of_the_limits_is_ruled_out_wherever_the_centre_is() -> None:
    assert more_pairs(pairs(1.0, 0.01)) == more_pairs(pairs(1.05, 0.01)) == 0
    assert more_pairs(pairs(1.0, 0.05)) == more_pairs(pairs(2.0, 0.05)) > 0
    assert more_pairs(pairs(1.0, 0.05), alpha=0.001) > more_pairs(pairs(1.0, 0.05))
    assert more_pairs(pairs(2.0, 0.01)[:8], alpha=0.001) == 8  # no limits yet
    assert more_pairs([math.nan] * 12) == 0  # that is decided


def test_the_number_of_pairs_that_is_wanted_is_about_what_it_takes() -> None:
    draw = random.Random(0)
    samples = [draw.gauss(0.0, 0.1) for _ in range(500)]
    wanted = 30 + more_pairs(samples[:30])
    assert 30 < wanted < 500
    assert more_pairs(samples[: round(1.5 * wanted)]) == 0 < more_pairs(samples[: wanted // 2])


def test_a_step_time_fails_exactly_where_wilcoxons_test_rejects() -> None:
    """So that what is simulated is what decides."""
    decisions = [step_time(pairs(1.02 + 0.0005 * i, 0.01)) for i in range(60)]
    assert [d.failed for d in decisions] == [d.p <= d.alpha for d in decisions]
    assert 0 < sum(d.failed for d in decisions) < 60


def test_the_p_of_a_step_time_is_scipys() -> None:
    from scipy.stats import wilcoxon

    for ratio in (0.98, 1.02, 1.03, 1.04):
        samples = [one + 0.00137 * i for i, one in enumerate(pairs(ratio, 0.02))]  # without ties
        expected = wilcoxon([s - math.log(1.02) for s in samples], alternative="greater", method="exact").pvalue
        assert step_time(samples).p == pytest.approx(expected, rel=1e-12)


def test_no_difference_at_all_passes() -> None:
    assert step_time([0.0] * 12).verdict == PASSED
    assert step_time([math.log1p(0.02)] * 12).verdict == PASSED  # at the margin, not beyond it


def test_an_outlier_leaves_a_step_time_undecided_and_never_turns_it() -> None:
    assert step_time([*pairs(1.0, 0.01)[:-1], 3.0]).verdict == UNSTABLE
    assert step_time([*pairs(1.0, 0.01)[1:], -3.0]).verdict == PASSED
    assert step_time([*pairs(1.05, 0.005)[1:], -3.0]).verdict == UNSTABLE
    assert step_time([*pairs(1.05, 0.005)[:-1], 3.0]).verdict == FAILED


def test_a_step_time_at_a_level_that_its_pairs_cannot_reach_is_unstable() -> None:
    assert step_time(pairs(2.0, 0.01)[:8]).verdict == FAILED
    assert step_time(pairs(2.0, 0.01)[:8], alpha=0.001).verdict == UNSTABLE


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [
        (0.0, 0.004, PASSED),
        (-0.5, 0.004, PASSED),
        (0.005, 0.001, PASSED),  # worse, and surely by less than the margin
        (0.02, 0.004, FAILED),
        (0.01, 0.002, FAILED),
        (0.005, 0.02, UNSTABLE),
        (0.02, 0.02, UNSTABLE),
    ],
)
def test_a_loss(gap: float, spread: float, verdict: str) -> None:
    decision = loss_not_worse(seeds(gap, spread))
    assert decision.verdict == verdict, str(decision)
    assert decision.failed == (verdict == FAILED)


def test_a_loss_with_a_known_spread_needs_fewer_seeds() -> None:
    differences = seeds(0.008, 0.006)
    assert loss_not_worse(differences).verdict == UNSTABLE
    known = loss_not_worse(differences, sd=0.006)
    assert known.verdict == FAILED
    assert known.p == pytest.approx(0.5 * math.erfc(0.008 / 0.006 * math.sqrt(5) / math.sqrt(2)), rel=1e-9)
    assert loss_not_worse([0.1], sd=0.006).verdict == FAILED


def test_the_p_of_a_loss_is_scipys() -> None:
    from scipy.stats import ttest_1samp

    differences = seeds(0.008, 0.006)
    expected = ttest_1samp(differences, 0.0, alternative="greater").pvalue
    assert loss_not_worse(differences).p == pytest.approx(expected, rel=1e-9)


def test_from_seven_seeds_on_their_own_spread_counts() -> None:
    seven = [*seeds(0.0, 0.004), 0.001, -0.001]
    assert loss_not_worse(seven, sd=100.0) == loss_not_worse(seven)


def test_a_spread_that_history_does_not_explain_is_unstable() -> None:
    wide = seeds(0.0, 0.05)
    decision = loss_not_worse(wide, sd=0.005)
    assert decision.verdict == UNSTABLE
    assert "differ by more than in earlier builds" in str(decision)
    assert loss_not_worse(seeds(0.0, 0.005), sd=0.005).verdict == PASSED


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [
        (0.0, 0.004, PASSED),
        (0.009, 0.0002, PASSED),
        (-0.009, 0.0002, PASSED),
        (0.0, 0.02, UNSTABLE),  # no significant difference, and still no proof of equality
        (0.012, 0.004, UNSTABLE),
        (0.02, 0.004, FAILED),
        (-0.02, 0.004, FAILED),
    ],
)
def test_equality(gap: float, spread: float, verdict: str) -> None:
    decision = losses_equal(seeds(gap, spread))
    assert decision.verdict == verdict, str(decision)
    assert (decision.p < decision.alpha) == (verdict == PASSED)


def test_that_no_difference_is_found_is_no_equality() -> None:
    """The wrong way to claim it, which a larger spread makes easier."""
    from scipy.stats import ttest_1samp

    noisy = seeds(0.03, 0.1)
    assert ttest_1samp(noisy, 0.0).pvalue > 0.05
    assert losses_equal(noisy).verdict == UNSTABLE


@pytest.mark.parametrize("gap", [0.0, 0.004, -0.006, 0.02])
def test_equality_is_statsmodels_tost(gap: float) -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
    import numpy as np

    differences = np.array(seeds(gap, 0.004))
    p, *_ = weightstats.ttost_paired(1.0 + differences, np.ones(len(differences)), -0.01, 0.01)
    assert losses_equal(list(differences)).p == pytest.approx(p, rel=1e-9)


Gate = Callable[[list[float]], Decision]
GATES: list[Gate] = [step_time, loss_not_worse, lambda d: loss_not_worse(d[:3], sd=0.005), losses_equal]


@pytest.mark.parametrize("gate", GATES, ids=["step-time", "loss", "loss-with-history", "equality"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fails(gate: Gate, bad: float) -> None:
    samples = [bad, *[0.0001 * one for one in SHAPE]]
    decision = gate(samples)
    assert decision.failed
    assert not decision.finite
    assert gate([0.0, *samples[1:]]).verdict == PASSED
    assert Decision.from_json(decision.to_json()).to_json() == decision.to_json()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: step_time([0.0] * 6), "step time is compared over 6 pairs; allowed: at least 7"),
        (lambda: loss_not_worse([0.0]), "losses are compared over 1 seeds; allowed: at least 2 paired seeds"),
        (lambda: loss_not_worse([], sd=1.0), "losses are compared over 0 seeds; allowed: at least 2 paired seeds"),
        (lambda: losses_equal([0.0]), "losses are compared over 1 seeds; allowed: at least 2 paired seeds"),
        (lambda: loss_not_worse([0.0], sd=0.0), "sd is 0.0; allowed: a number of nats above 0"),
        (lambda: loss_not_worse([0.0], sd=math.nan), "sd is nan; allowed: a number of nats above 0"),
    ],
)
def test_what_cannot_be_decided_on_is_refused(call: Callable[[], Decision], text: str) -> None:
    with pytest.raises(ComparisonError) as raised:
        call()
    assert str(raised.value) == text


def test_an_unstable_decision_says_so_and_why() -> None:
    assert str(step_time(pairs(1.0, 0.2))).startswith("unstable: cannot decide: 1x the time (interval 0.")
