"""Tests that run one after the other on one worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .plan import Planned

# For tests that no session has timed yet: of trainings, relative to each other; of others, nothing to speak of.
TRAINING_S, OTHER_S = 10.0, 0.05
# Tests that need nothing of ours travel in parcels: large ones, so that the fixtures of a module are not built on every
# worker, and several for each worker, so that all end at about the same time.
PARCELS = 8


@dataclass
class Unit:
    """``tests`` are indices into the collection. It needs ``gpus`` of ``memory_bytes`` each."""

    tests: list[int] = field(default_factory=list)
    seconds: float = 0.0
    gpus: int = 0
    memory_bytes: int = 0
    alone: bool = False

    def add(self, test: int, plan: Planned, seconds: float) -> None:
        """Let ``test`` be the last one."""
        self.tests.append(test)
        self.seconds += seconds
        self.gpus = max(self.gpus, plan.gpus)
        self.memory_bytes = max(self.memory_bytes, plan.memory_bytes)
        self.alone = self.alone or plan.alone


def units_of(ids: Sequence[str], plan: Sequence[Planned], seconds: Mapping[str, float], workers: int) -> list[Unit]:
    """The units of a session, the longest first. ``seconds`` is what earlier sessions took for tests, by node id."""
    others = [test for test, one in enumerate(plan) if not (one.unit or one.gpus)]
    parcel = max(1, len(others) // (PARCELS * workers))
    parcel_of = {test: number // parcel for number, test in enumerate(others)}
    units: dict[object, Unit] = {}
    for test, (id, one) in enumerate(zip(ids, plan, strict=True)):
        key: object = parcel_of.get(test, (one.unit or id, one.alone))
        expected = TRAINING_S * one.trainings if one.unit or one.gpus else OTHER_S
        units.setdefault(key, Unit()).add(test, one, seconds.get(id, expected))
    return sorted(units.values(), key=lambda unit: -unit.seconds)
