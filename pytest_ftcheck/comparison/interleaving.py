"""Measuring two trainings in turns: warm-up, pairs in random order, and rounds until it is settled."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from ..baseline.decision import Decision
from ..baseline.family import holm, settled
from ..baseline.statistics import step_time
from .step_time import Round, StepTime

# Twelve pairs of eight steps: what the operating characteristics in docs/statistics.md are of.
PAIRS, STEPS_OF_A_TURN = 12, 8
# The first step of a turn finds caches that the other training has filled.
COLD_STEPS = 1
# Warm-up ends where the medians of two successive blocks agree, and at the latest after so many.
BLOCK, MOST_BLOCKS, AGREEMENT = 5, 6, 0.02
# Updates that a training must be able to make: the first shows that it runs.
UPDATES = 1 + MOST_BLOCKS * BLOCK + PAIRS * (COLD_STEPS + STEPS_OF_A_TURN)


class Trains(Protocol):
    """What has a turn."""

    def turn(self, updates: int) -> Sequence[float]:
        """Seconds of each of so many updates."""


def interleaved(reference: Trains, candidate: Trains, order: random.Random) -> Round:
    """One round of ``PAIRS`` pairs, which of the two is first drawn for each."""
    for one in (reference, candidate):
        _warm_up(one)
    medians: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(PAIRS):
        for index in order.sample((0, 1), 2):
            seconds = (reference, candidate)[index].turn(COLD_STEPS + STEPS_OF_A_TURN)
            medians[index].append(statistics.median(seconds[COLD_STEPS:]))
    return Round(tuple(medians[0]), tuple(medians[1]))


def _warm_up(one: Trains) -> None:
    before = statistics.median(one.turn(BLOCK))
    for _ in range(MOST_BLOCKS - 1):
        now = statistics.median(one.turn(BLOCK))
        if abs(now - before) <= AGREEMENT * before:
            return
        before = now


def compare(
    methods: Sequence[str], fresh: Callable[[str], Round], names: tuple[str, str], device: str
) -> dict[str, StepTime]:
    """The step times of all ``methods``, each from as many rounds as settle it; ``fresh(method)`` measures one.

    The methods are one family: Holm's levels, from the first round of each, hold for the rounds that follow.
    """
    rounds = {method: [fresh(method)] for method in methods}
    first = holm({method: partial(step_time, rounds[method][0].log_ratios) for method in methods})
    return {method: _settle(method, rounds[method], first[method], fresh, names, device) for method in methods}


def _settle(
    method: str,
    rounds: list[Round],
    first: Decision,
    fresh: Callable[[str], Round],
    names: tuple[str, str],
    device: str,
) -> StepTime:
    decisions = [first]
    while (decision := settled(decisions)) is None:
        rounds.append(fresh(method))
        decisions.append(step_time(rounds[-1].log_ratios, first.alpha))
    return StepTime(method, names, device, tuple(rounds), decision)
