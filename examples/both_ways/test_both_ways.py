"""The embedded tasks, fine-tuned both ways: what this plugin is about, on a CPU, in under a minute.

Each task's teacher differs from the base model by a change of known rank: 2 in "general", 32 in "narrow". So LoRA of
rank 8 has room for the first and not for the second, and rank 32 has room for both. All losses are KL divergences to
the teacher, whose floor is 0.
"""

from __future__ import annotations

import pytest

from pytest_ftcheck import Pair, Recipe
from pytest_ftcheck.tasks import GENERAL, NARROW, planted_recipe

pytestmark = pytest.mark.gpu

RECIPES = {
    "general-r8": planted_recipe(GENERAL, "general", rank=8),
    # Full leads by 0.015 nats: that this is more than 0.01 takes four seeds to tell.
    "narrow-r8": planted_recipe(NARROW, "narrow", rank=8).replace(seeds=4),
    "narrow-r32": planted_recipe(NARROW, "narrow", rank=32),
}
# At full's learning rate of 1e-3 and LoRA's of 1e-2, after 250 updates; at other rates the order may be another.
WINNERS = {"general-r8": "lora", "narrow-r8": "full", "narrow-r32": "lora"}


@pytest.fixture(scope="module", params=RECIPES)
def ft_recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


def test_the_model_trains_as_declared(ft_pair: Pair) -> None:
    for run in (*ft_pair.fulls, *ft_pair.loras):
        assert not run.deviations


def test_lora_holds_less_memory(ft_pair: Pair) -> None:
    # Weights, gradients and AdamW's two states: 16 bytes for a trainable parameter, 4 for a frozen one.
    full, lora = ft_pair.full.parameters, ft_pair.lora.parameters
    expected = 16 * full.total / (16 * lora.trainable + 4 * lora.frozen)
    assert ft_pair.memory_ratio("static") == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("ft_recipe", RECIPES, indirect=True)
def test_the_loss_order_at_the_horizon(ft_pair: Pair, request: pytest.FixtureRequest) -> None:
    order = ft_pair.loss_order(at=250)
    assert order.winner == WINNERS[request.node.callspec.params["ft_recipe"]], order


@pytest.mark.parametrize("ft_recipe", ["narrow-r8"], indirect=True)
def test_step_30_would_have_misled(ft_pair: Pair) -> None:
    early = ft_pair.loss_order(at=30)
    assert early.gap < 0, f"LoRA is ahead at step 30: {early}"
    assert early.winner == "undecided", early
    assert early.crossover is not None
    assert 30 < early.crossover < 250


@pytest.mark.parametrize("ft_recipe", RECIPES, indirect=True)
def test_the_decision_is_the_winner_at_the_horizon_and_none_at_step_30(
    ft_pair: Pair, request: pytest.FixtureRequest
) -> None:
    choice, early = ft_pair.decision(), ft_pair.decision(at=30)
    assert choice.verdict == WINNERS[request.node.callspec.params["ft_recipe"]], choice
    assert (early.verdict, early.run_to) == ("too early to tell", 250), early
