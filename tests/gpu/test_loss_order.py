"""The embedded narrow task over 500 updates: what step 30 would have said, and what the horizon says."""

from __future__ import annotations

import pytest

from pytest_ftcheck import Pair, Recipe
from pytest_ftcheck.tasks import NARROW, planted_recipe

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def ft_recipe() -> Recipe:
    return planted_recipe(NARROW, "narrow-500").replace(steps=500)


def test_lora_of_too_small_a_rank_is_ahead_early_and_behind_at_the_horizon(ft_pair: Pair) -> None:
    early, late = ft_pair.loss_order(at=30), ft_pair.loss_order(at=500)
    assert early.gap < 0, early
    assert early.winner == "undecided", early
    assert late.winner == "full", late
    assert early.crossover is not None
    assert 30 < early.crossover < 500


def test_the_decision_waits_for_the_horizon(ft_pair: Pair) -> None:
    assert ft_pair.decision(at=30).verdict == "too early to tell"
    assert ft_pair.decision().verdict == "full", ft_pair.decision()
