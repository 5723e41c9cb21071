"""Turns, pairs and rounds, with trainings that say what a step takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pytest_ftcheck.comparison.interleaving import (
    BLOCK,
    COLD_STEPS,
    MOST_BLOCKS,
    PAIRS,
    STEPS_OF_A_TURN,
    UPDATES,
    compare,
    interleaved,
)
from pytest_ftcheck.comparison.step_time import Round, StepTime

TURN = COLD_STEPS + STEPS_OF_A_TURN


class Trained:
    """Takes ``seconds(update)`` for an update, and writes its turns into ``log``."""

    def __init__(self, name: str, seconds: Callable[[int], float], log: list[tuple[str, int]]) -> None:
        self._name, self._seconds, self._log = name, seconds, log
        self.updates = 0

    def turn(self, updates: int) -> Sequence[float]:
        self._log.append((self._name, updates))
        self.updates += updates
        return [self._seconds(one) for one in range(self.updates - updates, self.updates)]


def steady(seconds: float) -> Callable[[int], float]:
    return lambda update: seconds


def race(a: Callable[[int], float], b: Callable[[int], float], seed: int = 0) -> tuple[Round, list[tuple[str, int]]]:
    log: list[tuple[str, int]] = []
    return interleaved(Trained("a", a, log), Trained("b", b, log), random.Random(seed)), log


def test_each_pair_has_one_turn_of_each_in_an_order_that_is_drawn() -> None:
    _, log = race(steady(1.0), steady(1.0))
    turns = [name for name, updates in log if updates == TURN]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert len(pairs) == PAIRS
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert pairs != [name for name, updates in race(steady(1.0), steady(1.0), seed=1)[1] if updates == TURN]


def test_a_pair_is_of_medians_without_the_cold_step() -> None:
    """The first step of a turn is slow, and three of the others; a mean would have noticed."""
    found, _ = race(lambda update: 9.0 if (update - 2 * BLOCK) % TURN in (0, 2, 4, 5) else 1.0, steady(1.25))
    assert found.reference_s == (1.0,) * PAIRS
    assert found.candidate_s == (1.25,) * PAIRS


def test_warm_up_ends_where_two_blocks_agree() -> None:
    _, log = race(lambda update: 2.0 if update < 3 * BLOCK else 1.0, steady(1.0))
    assert [turn for turn in log if turn[1] == BLOCK] == [("a", BLOCK)] * 2 + [("b", BLOCK)] * 2
    _, log = race(lambda update: 2.0 if update < 1 * BLOCK else 1.0, steady(1.0))
    assert [turn for turn in log if turn[1] == BLOCK] == [("a", BLOCK)] * 3 + [("b", BLOCK)] * 2


def test_warm_up_ends_in_any_case_within_the_updates_that_a_training_is_asked_for() -> None:
    def restless(update: int) -> float:
        return 1.0 + update // BLOCK % 2

    _, log = race(restless, steady(1.0))
    assert [turn for turn in log if turn[1] == BLOCK].count(("a", BLOCK)) == MOST_BLOCKS
    assert 1 + sum(updates for name, updates in log if name == "a") == UPDATES


def measured(*ratios: float) -> Callable[[str], Round]:
    """Rounds with these ratios, one after the other, and a little spread."""
    left = list(ratios)

    def fresh(method: str) -> Round:
        ratio = left.pop(0)
        return Round((1.0,) * PAIRS, tuple(ratio * (1 + 0.001 * i) for i in range(PAIRS)))

    return fresh


def outcome(*ratios: float) -> StepTime:
    return compare(["lora"], measured(*ratios), ("main", "this tree"), "cpu")["lora"]


@pytest.mark.parametrize(
    ("ratios", "verdict", "rounds"),
    [
        ((1.0,), "passed", 1),
        ((1.1, 1.1), "failed", 2),
        ((1.1, 1.0, 1.0), "passed", 3),
        ((1.1, 1.0, 1.1), "failed", 3),
        ((0.5,), "passed", 1),
    ],
)
def test_an_alarm_is_confirmed_on_fresh_samples(ratios: tuple[float, ...], verdict: str, rounds: int) -> None:
    found = outcome(*ratios)
    assert (found.verdict, len(found.rounds)) == (verdict, rounds)


def test_several_methods_are_one_family() -> None:
    """With p = 2**-12 each, Holm's level is reached by a few methods and not by 60."""

    def slower(method: str) -> Round:
        return measured(1.1)(method)

    few = compare(["full", "lora"], slower, ("main", "this tree"), "cpu")
    many = compare([str(i) for i in range(60)], slower, ("main", "this tree"), "cpu")
    assert {one.verdict for one in few.values()} == {"failed"}
    assert {one.verdict for one in many.values()} == {"unstable"}


def test_a_comparison_says_how_much_how_sure_and_how_long() -> None:
    found = outcome(1.1, 1.1)
    assert found.ratio == pytest.approx(1.106, abs=0.001)
    assert found.interval[0] < found.ratio < found.interval[1]
    first, second = repr(found).splitlines()
    assert first == "lora: step time slower: this tree takes 1.106x that of main (1.11 s against 1 s, cpu)"
    assert second.startswith("  in round 2: 1.106x the time (interval 1.103 to 1.109, 12 pairs): more than 2% slower")
    assert second.endswith(", confirmed on fresh samples")


def test_a_comparison_survives_json() -> None:
    found = outcome(1.1, 1.1)
    assert StepTime.from_json(found.to_json()) == found


@pytest.mark.parametrize("bad", [0.0, float("nan"), -1.0])
def test_a_time_that_is_no_time_fails_at_once(bad: float) -> None:
    def fresh(method: str) -> Any:
        return Round((1.0,) * PAIRS, (bad, *(1.0,) * (PAIRS - 1)))

    found = compare(["lora"], fresh, ("main", "this tree"), "cpu")["lora"]
    assert (found.verdict, len(found.rounds)) == ("failed", 1)
