from __future__ import annotations

import random
import time

import torch
from observers.models import Next, cross_entropy, loop, tokens

from pytest_ftcheck.observers import Observation


def evaluated(model: Next, evaluate_at: tuple[int, ...], pause_s: float = 0.0) -> Observation:
    """Train ``model`` with evaluations that draw random numbers, as sampling from a model does."""

    def evaluate() -> float:
        assert not model.training
        random.random()
        torch.rand(3)
        time.sleep(pause_s)
        with torch.no_grad():
            return cross_entropy(model, tokens(seed=50)).item()

    seen = Observation(evaluate=evaluate, evaluate_at=evaluate_at)
    with seen.events.listening() as events:
        events.attach(model)
        torch.manual_seed(1)
        loop(model, steps=8)
    return seen


def test_evaluating_in_between_changes_no_bit_of_the_training() -> None:
    often, never = Next(dropout=0.5), Next(dropout=0.5)
    often.load_state_dict(never.state_dict())
    with_evaluations, without = evaluated(often, (1, 2, 5, 8)), evaluated(never, ())
    assert with_evaluations.loss.train == without.loss.train
    assert with_evaluations.loss.batches == without.loss.batches
    assert all(torch.equal(a, b) for a, b in zip(often.parameters(), never.parameters(), strict=True))


def test_evaluations_are_taken_after_the_updates_asked_for() -> None:
    seen = evaluated(Next(), (2, 8))
    assert [step for step, _ in seen.loss.eval] == [2, 8]
    assert seen.loss.eval[0][1] != seen.loss.eval[1][1]


def test_each_module_gets_back_the_mode_that_it_had() -> None:
    model = Next(dropout=0.5)
    model.drop.eval()
    evaluated(model, (1,))
    assert model.training
    assert not model.drop.training


def test_the_time_of_evaluations_is_not_counted() -> None:
    seen = evaluated(Next(), (1, 2, 3, 4, 5, 6, 7, 8), pause_s=0.05)
    assert len(seen.time.samples_s) == 7
    assert max(seen.time.samples_s) < 0.05


def test_the_time_of_the_users_own_loop_is_counted() -> None:
    model = Next()
    seen = Observation()

    def slow(step: int) -> torch.Tensor:
        time.sleep(0.02)
        return cross_entropy(model, tokens(seed=step))

    with seen.events.listening() as events:
        events.attach(model)
        loop(model, steps=3, loss=slow)
    assert min(seen.time.samples_s) >= 0.02
