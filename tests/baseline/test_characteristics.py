"""How often the gates are wrong, measured by simulation, and that docs/statistics.md says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from baseline.characteristics import known_spread, loss_builds, loss_table, step_time_builds, step_time_table
from baseline.simulated import BUSY, OVERLOADED, QUIET, SHARED, Machine

from pytest_ftcheck.baseline.decision import Decision
from pytest_ftcheck.baseline.family import holm
from pytest_ftcheck.baseline.statistics import loss_not_worse, losses_equal, step_time
from pytest_ftcheck.comparison.interleaving import FEWEST_PAIRS

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")


def share(decisions: Sequence[Decision], verdict: str) -> float:
    return sum(decision.verdict == verdict for decision in decisions) / len(decisions)


@pytest.mark.parametrize("machine", [QUIET, SHARED, BUSY, OVERLOADED], ids=lambda machine: machine.name)
def test_no_sound_build_fails(machine: Machine) -> None:
    assert share([outcome for _, outcome in step_time_builds(machine, 0.0)], "failed") == 0


@pytest.mark.parametrize("machine", [QUIET, SHARED, BUSY], ids=lambda machine: machine.name)
def test_a_step_that_is_five_percent_slower_is_found_in_ninety_five_of_a_hundred_builds(machine: Machine) -> None:
    assert share([outcome for _, outcome in step_time_builds(machine, 0.05)], "failed") >= 0.95


@pytest.mark.parametrize("machine", [QUIET, SHARED, BUSY, OVERLOADED], ids=lambda machine: machine.name)
def test_a_step_that_is_five_percent_slower_seldom_passes(machine: Machine) -> None:
    """However noisy the machine is: then the gate says that it cannot decide."""
    assert share([outcome for _, outcome in step_time_builds(machine, 0.05)], "passed") <= 0.08


def test_an_overloaded_machine_is_said_to_decide_nothing_rather_than_that_all_is_well() -> None:
    outcomes = [outcome for _, outcome in step_time_builds(OVERLOADED, 0.05)]
    assert share(outcomes, "unstable") > 0.2 > share(outcomes, "passed")
    assert share([outcome for _, outcome in step_time_builds(QUIET, 0.05)], "unstable") == 0


def test_a_noisy_machine_makes_more_pairs() -> None:
    pairs = [step_time_builds(machine, 0.0)[0][0].pairs for machine in (QUIET, SHARED, BUSY)]
    assert pairs[0] < pairs[1] < pairs[2]


def test_the_noise_fools_the_usual_way() -> None:
    """The control of the simulation: all steps of one training, then all of the other, and a test of ranks at 5 %."""
    from scipy.stats import mannwhitneyu

    draw = np.random.default_rng(0)
    runs = QUIET.log_seconds(draw, 400, 2, 50) + 0.015 * draw.standard_normal((400, 2, 1))
    alarms = mannwhitneyu(runs[:, 1], runs[:, 0], alternative="greater", axis=1).pvalue < 0.05
    assert alarms.mean() > 0.2


def test_ten_gates_in_a_build_raise_no_more_alarms_than_one_would() -> None:
    """Of 300 builds in which all ten are 2 % slower: as bad as may still pass."""
    draw = np.random.default_rng(1)
    still = dataclasses.replace(QUIET, process_shift=0.0)
    builds = still.log_ratios(draw, 3000, 0.02, pairs=FEWEST_PAIRS).reshape(300, 10, -1).tolist()

    def alarms(build: list[list[float]]) -> tuple[bool, bool]:
        gates = {str(i): (lambda alpha, ratios=ratios: step_time(ratios, alpha)) for i, ratios in enumerate(build)}
        one_by_one = any(step_time(ratios).failed for ratios in build)
        return any(decision.failed for decision in holm(gates).values()), one_by_one

    found = [alarms(build) for build in builds]
    assert sum(family for family, _ in found) / 300 <= 0.02
    assert sum(single for _, single in found) / 300 > 0.04


def test_a_loss_that_is_the_same_fails_in_one_of_a_hundred_builds_at_most() -> None:
    for seeds in (5, 8):
        assert share(loss_builds(loss_not_worse, seeds, 0.0), "failed") <= 0.02


@pytest.mark.parametrize(("seeds", "worse"), [(5, 0.015), (8, 0.01)])
def test_a_loss_that_is_worse_is_found(seeds: int, worse: float) -> None:
    assert share(loss_builds(loss_not_worse, seeds, worse), "failed") >= 0.95


def test_a_known_spread_finds_a_smaller_difference_with_five_seeds() -> None:
    known = loss_builds(known_spread, 5, 0.01)
    assert share(known, "failed") >= 0.95 > share(loss_builds(loss_not_worse, 5, 0.01), "failed")


def test_equality_is_wrongly_claimed_in_one_of_twenty_at_most() -> None:
    """At the margin itself, where a claim is wrong and hardest to tell."""
    for seeds in (5, 8):
        assert share(loss_builds(losses_equal, seeds, 0.01), "passed") <= 0.08
        assert share(loss_builds(losses_equal, seeds, 0.0), "passed") >= 0.9


@pytest.mark.parametrize("table", [step_time_table, loss_table])
def test_the_page_has_the_figures_that_are_measured(table: object) -> None:
    assert "\n".join(table()) in PAGE  # type: ignore[operator]
