"""Turns, pairs and rounds, with trainings that say what a step takes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pytest_ftcheck.comparison import interleaving
from pytest_ftcheck.comparison.interleaving import (
    BLOCK,
    FEWEST_PAIRS,
    FEWEST_UPDATES,
    MOST_BLOCKS,
    MOST_PAIRS,
    MOST_UPDATES_OF_A_TURN,
    TURN_S,
    UPDATES,
    compare,
    interleaved,
    measured,
)
from pytest_ftcheck.comparison.step_time import Round, StepTime
from pytest_ftcheck.errors import TrainingEndedError


class Trained:
    """Takes ``seconds(update)`` for an update, and writes its turns into ``log``; ends after so many updates."""

    def __init__(
        self, name: str, seconds: Callable[[int], float], log: list[tuple[str, int]], ends_after: int = UPDATES
    ) -> None:
        self._name, self._seconds, self._log, self._ends_after = name, seconds, log, ends_after
        self.updates = 1  # the one that shows that it runs

    def turn(self, updates: int) -> Sequence[float]:
        self._log.append((self._name, updates))
        self.updates += updates
        if self.updates > self._ends_after:
            raise TrainingEndedError(f"{self._name} ended")
        return [self._seconds(one) for one in range(self.updates - updates, self.updates)]


def steady(seconds: float) -> Callable[[int], float]:
    return lambda update: seconds


def race(a: Callable[[int], float], b: Callable[[int], float], seed: int = 0) -> tuple[Round, list[tuple[str, int]]]:
    log: list[tuple[str, int]] = []
    return interleaved(Trained("a", a, log), Trained("b", b, log), random.Random(seed)), log


def noisy(spread: float) -> Callable[[], tuple[float, float]]:
    """Pairs of which one half is slower by ``spread``, and the other faster."""
    draw = random.Random(0)
    return lambda: (1.0, math.exp(spread * draw.choice((-1, 1)) * draw.random()))


def test_each_pair_has_one_turn_of_each_in_an_order_that_is_drawn() -> None:
    _, log = race(steady(1.0), steady(1.0))
    turns = [name for name, updates in log if updates == 1]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert len(pairs) == FEWEST_PAIRS
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert turns != [name for name, updates in race(steady(1.0), steady(1.0), seed=1)[1] if updates == 1]


@pytest.mark.parametrize(("step_s", "updates"), [(2 * TURN_S, 1), (0.6 * TURN_S, 2), (0.0001, MOST_UPDATES_OF_A_TURN)])
def test_a_turn_of_short_steps_has_several(step_s: float, updates: int) -> None:
    _, log = race(steady(step_s), steady(1.0))
    assert {turn for _, turn in log} == {BLOCK, updates}


def test_a_pair_is_of_the_same_updates_and_of_the_median_of_each_turn() -> None:
    """A batch that takes longer takes longer in both."""
    found, _ = race(lambda update: 0.02 * (1 + update % 7), lambda update: 0.025 * (1 + update % 7))
    assert found.log_ratios == pytest.approx([math.log(1.25)] * FEWEST_PAIRS)
    assert len(set(found.reference_s)) > 3


def test_warm_up_ends_where_both_are_as_fast_as_they_were() -> None:
    def blocks(seconds: Callable[[int], float]) -> int:
        return [name for name, updates in race(seconds, steady(1.0))[1] if updates == BLOCK].count("b")

    assert blocks(steady(2.0)) == 2
    assert blocks(lambda update: 2.0 if update <= 1 * BLOCK else 1.0) == 3
    assert blocks(lambda update: 1.0 + update) == MOST_BLOCKS


def test_a_round_is_as_long_as_the_spread_of_its_pairs_calls_for() -> None:
    counts = [len(measured(noisy(spread))) for spread in (0.0, 0.02, 0.08, 0.14, 5.0)]
    assert counts[:2] == [FEWEST_PAIRS] * 2
    assert FEWEST_PAIRS < counts[2] < counts[3] < MOST_PAIRS
    assert counts[4] == MOST_PAIRS
    assert len(measured(noisy(0.1), alpha=0.0001)) > counts[2]


def test_how_much_slower_it_is_does_not_lengthen_a_round() -> None:
    slower = noisy(0.1)
    assert len(measured(lambda: (1.0, 2.0 * slower()[1]))) == len(measured(noisy(0.1)))


def test_a_round_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaving, "ROUND_S", -1.0)
    assert len(measured(noisy(5.0))) == FEWEST_PAIRS


def test_a_training_that_ends_is_measured_until_then() -> None:
    def ends_after(updates: int, spread: float) -> Round:
        draw, log = random.Random(0), []  # type: ignore[var-annotated]
        restless = Trained("a", lambda update: 0.001 * (1 + spread * draw.random()), log, updates)
        return interleaved(restless, Trained("b", steady(0.001), log), random.Random(0))

    assert len(ends_after(UPDATES, 0.01)) == FEWEST_PAIRS
    assert len(ends_after(UPDATES, 100.0)) == MOST_PAIRS
    assert FEWEST_PAIRS <= len(ends_after(FEWEST_UPDATES + 100, 100.0)) < MOST_PAIRS
    assert len(ends_after(FEWEST_UPDATES, 100.0)) == FEWEST_PAIRS
    with pytest.raises(TrainingEndedError, match="a ended"):
        ends_after(FEWEST_UPDATES - MOST_BLOCKS * BLOCK, 100.0)


def rounds_of(*ratios: float) -> Callable[[str, float], Round]:
    """Rounds with these ratios, one after the other, and a little spread."""
    left = list(ratios)

    def fresh(method: str, alpha: float) -> Round:
        ratio = left.pop(0)
        return Round((1.0,) * PAIRS, tuple(ratio * (1 + 0.001 * i) for i in range(PAIRS)))

    return fresh


PAIRS = 12


def outcome(*ratios: float) -> StepTime:
    return compare(["lora"], rounds_of(*ratios), ("main", "this tree"), "cpu")["lora"]


@pytest.mark.parametrize(
    ("ratios", "verdict", "rounds"),
    [
        ((1.0,), "passed", 1),
        ((1.1, 1.1), "failed", 2),
        ((1.1, 1.0, 1.0), "passed", 3),
        ((1.1, 1.0, 1.1), "failed", 3),
        ((0.5,), "passed", 1),
        ((1.015, 1.0), "passed", 2),
        ((1.015, 1.1, 1.1), "failed", 3),
    ],
)
def test_an_alarm_and_a_close_pass_are_confirmed_on_fresh_samples(
    ratios: tuple[float, ...], verdict: str, rounds: int
) -> None:
    found = outcome(*ratios)
    assert (found.verdict, len(found.rounds)) == (verdict, rounds)


def test_several_methods_are_one_family() -> None:
    """With p = 2**-12 each, Holm's level is reached by a few methods and not by 60."""

    def slower(method: str, alpha: float) -> Round:
        return rounds_of(1.1)(method, alpha)

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
    def fresh(method: str, alpha: float) -> Any:
        return Round((1.0,) * PAIRS, (bad, *(1.0,) * (PAIRS - 1)))

    found = compare(["lora"], fresh, ("main", "this tree"), "cpu")["lora"]
    assert (found.verdict, len(found.rounds)) == ("failed", 1)
