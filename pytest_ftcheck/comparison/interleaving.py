"""Measuring two trainings in turns: warm-up, pairs of turns in random order, and rounds until it is settled."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from ..baseline.decision import Decision
from ..baseline.family import holm, settled
from ..baseline.statistics import ALPHA, more_pairs, step_time
from ..errors import TrainingEndedError
from .step_time import Round, StepTime

# Warm-up ends where the medians of two successive blocks agree, and at the latest after so many.
BLOCK, MOST_BLOCKS, AGREEMENT = 5, 6, 0.02
# A turn is as short as it can be: what else the machine does changes within a tenth of a second, by a quarter. Shorter
# ones would be of messages and cold caches.
TURN_S, MOST_UPDATES_OF_A_TURN = 0.03, 4
# A quiet machine settles it with the fewest pairs (docs/statistics.md); another gets more, while there is time.
FEWEST_PAIRS, MOST_PAIRS, ROUND_S = 24, 320, 60.0
# Updates that a training is asked for, and those that it must make in any case: the first shows that it runs.
UPDATES, FEWEST_UPDATES = (1 + MOST_BLOCKS * BLOCK + n * MOST_UPDATES_OF_A_TURN for n in (MOST_PAIRS, FEWEST_PAIRS))


class Trains(Protocol):
    """What has a turn."""

    def turn(self, updates: int) -> Sequence[float]:
        """Seconds of each of so many updates. Raises TrainingEndedError where there are not so many any more."""


def interleaved(reference: Trains, candidate: Trains, order: random.Random, alpha: float = ALPHA) -> Round:
    """One round: both are warmed up, and measured in pairs, of which either comes first as ``order`` draws it.

    Both make the same number of updates, so that a pair is of the same batches.
    """
    both = (reference, candidate)
    updates = _updates_of_a_turn(_warm_up(both))
    return measured(lambda: _pair(both, order, updates), alpha)


def measured(pair: Callable[[], tuple[float, float]], alpha: float = ALPHA) -> Round:
    """Pairs, until their spread allows a decision at ``alpha``, or there are too many, or the time is over. Raises
    TrainingEndedError where a training ends before there are ``FEWEST_PAIRS``; one that ends later ends the round.
    """
    pairs: list[tuple[float, float]] = []
    wanted, start = FEWEST_PAIRS, time.monotonic()
    while wanted and not (len(pairs) >= FEWEST_PAIRS and time.monotonic() - start > ROUND_S):
        try:
            pairs.append(pair())
        except TrainingEndedError:
            if len(pairs) < FEWEST_PAIRS:
                raise
            break
        wanted -= 1
        if not wanted:
            wanted = min(more_pairs(Round.of(pairs).log_ratios, alpha), len(pairs), MOST_PAIRS - len(pairs))
    return Round.of(pairs)


def _pair(both: tuple[Trains, Trains], order: random.Random, updates: int) -> tuple[float, float]:
    """The median seconds of a step in a turn of each."""
    found = [math.nan, math.nan]
    for index in order.sample((0, 1), 2):
        found[index] = statistics.median(both[index].turn(updates))
    return found[0], found[1]


def _updates_of_a_turn(step_s: float) -> int:
    wanted = math.ceil(TURN_S / step_s) if step_s > 0 else MOST_UPDATES_OF_A_TURN
    return min(wanted, MOST_UPDATES_OF_A_TURN)


def _warm_up(both: Sequence[Trains]) -> float:
    """Let both train until each is as fast as it was before. Returns the seconds of a step of the faster one."""
    before = [math.nan] * len(both)
    for _ in range(MOST_BLOCKS):
        now = [statistics.median(one.turn(BLOCK)) for one in both]
        if all(abs(b - a) <= AGREEMENT * a for a, b in zip(before, now, strict=True)):
            break
        before = now
    return min(now)


def compare(
    methods: Sequence[str], fresh: Callable[[str, float], Round], names: tuple[str, str], device: str
) -> dict[str, StepTime]:
    """The step times of all ``methods``, each from as many rounds as settle it; ``fresh(method, alpha)`` measures one,
    to be decided at the level ``alpha``.

    The methods are one family: Holm's levels, from the first round of each, hold for the rounds that follow.
    """
    strictest = ALPHA / len(methods)
    rounds = {method: [fresh(method, strictest)] for method in methods}
    first = holm({method: partial(step_time, rounds[method][0].log_ratios) for method in methods})
    return {method: _settle(method, rounds[method], first[method], fresh, names, device) for method in methods}


def _settle(
    method: str,
    rounds: list[Round],
    first: Decision,
    fresh: Callable[[str, float], Round],
    names: tuple[str, str],
    device: str,
) -> StepTime:
    decisions = [first]
    while (decision := settled(decisions)) is None:
        rounds.append(fresh(method, first.alpha))
        decisions.append(step_time(rounds[-1].log_ratios, first.alpha))
    return StepTime(method, names, device, tuple(rounds), decision)
