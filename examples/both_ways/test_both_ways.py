"""The embedded tasks, fine-tuned both ways: what this plugin is about, on a CPU, in under a minute.

Each task's teacher differs from the base model by a change of known rank: 2 in "general", 32 in "narrow". So LoRA of rank
8 has room for the first and not for the second, and rank 32 has room for both. All losses are KL divergences to the
teacher, whose floor is 0.
"""

from __future__ import annotations

import pytest

from pytest_ftcheck import Pair, Recipe
from pytest_ftcheck.tasks import GENERAL, NARROW, planted_recipe

pytestmark = pytest.mark.gpu

RECIPES = {
    "general-r8": planted_recipe(GENERAL, "general"),
    "narrow-r8": planted_recipe(NARROW, "narrow"),
    "narrow-r32": planted_recipe(NARROW, "narrow", rank=32),
}


@pytest.fixture(scope="module", params=RECIPES)
def ft_recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


def test_the_model_trains_as_declared(ft_pair: Pair) -> None:
    for run in (ft_pair.full, ft_pair.lora):
        assert run.parameters.trainable == run.parameters.declared.trainable
        assert not run.deviations


def test_lora_holds_less_memory(ft_pair: Pair) -> None:
    # Weights, gradients and AdamW's two states: 16 bytes for a trainable parameter, 4 for a frozen one.
    full, lora = ft_pair.full.parameters, ft_pair.lora.parameters
    expected = 16 * full.total / (16 * lora.trainable + 4 * lora.frozen)
    assert ft_pair.memory_ratio("static") == pytest.approx(expected, rel=0.01)


def test_the_loss_order_at_the_horizon(ft_pair: Pair, request: pytest.FixtureRequest) -> None:
    # At full's learning rate of 1e-3 and LoRA's of 1e-2; at other rates the order may be another.
    too_small = ft_pair.lora.title == "LoRA r=8" and ft_pair.lora.recipe == "narrow"
    order = ft_pair.loss_order(at=250)
    assert order.winner == ("full" if too_small else "lora"), order


def test_step_30_is_too_early_to_tell(ft_pair: Pair) -> None:
    if ft_pair.lora.title == "LoRA r=8" and ft_pair.lora.recipe == "narrow":
        early = ft_pair.loss_order(at=30)
        assert early.gap < 0, "LoRA is ahead at step 30"
        assert early.winner == "undecided", early
        assert 30 < early.crossover < 250
    else:
        assert ft_pair.loss_order(at=30).winner in ("lora", "undecided")
