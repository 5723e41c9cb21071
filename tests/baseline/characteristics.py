"""How often the statistical gates are wrong, and what they find, by simulation: the tables of docs/statistics.md.

cd tests && python -m baseline.characteristics
"""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from baseline.simulated import BUSY, LOSS_SD, OVERLOADED, QUIET, SHARED, Machine

from pytest_ftcheck.baseline.decision import Decision
from pytest_ftcheck.baseline.family import MOST_ROUNDS, settled
from pytest_ftcheck.baseline.statistics import loss_not_worse, losses_equal, step_time
from pytest_ftcheck.comparison.interleaving import measured

BUILDS = 400
# Of a machine whose rounds are long: each has some hundred pairs.
FEW_BUILDS = 200
SLOWER = {
    QUIET: (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07),
    SHARED: (0.0, 0.02, 0.05, 0.10),
    BUSY: (0.0, 0.02, 0.05, 0.10),
    OVERLOADED: (0.0, 0.05),
}
VERDICTS = ("passed", "failed", "unstable")
Gate = Callable[[Sequence[float]], Decision]


def build(rounds: Sequence[Sequence[float]]) -> tuple[Decision, Decision]:
    """The first decision of a build, and what it came to. ``rounds``: what each round would measure, if it is made."""
    decisions: list[Decision] = []
    for log_ratios in rounds:
        pairs = iter(log_ratios)
        decisions.append(step_time(measured(lambda: (1.0, math.exp(next(pairs)))).log_ratios))  # noqa: B023
        if (outcome := settled(decisions)) is not None:
            return decisions[0], outcome
    raise AssertionError("more rounds than are ever made")


@functools.cache
def step_time_builds(machine: Machine, slower: float) -> list[tuple[Decision, Decision]]:
    builds = BUILDS if machine is QUIET else FEW_BUILDS
    draw = np.random.default_rng(2026)
    found = machine.log_ratios(draw, builds * MOST_ROUNDS, slower).reshape(builds, MOST_ROUNDS, -1)
    return [build(rounds) for rounds in found.tolist()]


@functools.cache
def loss_builds(gate: Gate, seeds: int, gap: float, builds: int = BUILDS) -> list[Decision]:
    draw = np.random.default_rng(2026)
    return [gate(differences) for differences in (gap + LOSS_SD * draw.standard_normal((builds, seeds))).tolist()]


def shares(decisions: Sequence[Decision]) -> list[str]:
    """The share of each verdict, as text."""
    counts = Counter(decision.verdict for decision in decisions)
    return [f"{100 * counts[verdict] / len(decisions):.1f} %" for verdict in VERDICTS]


def known_spread(differences: Sequence[float]) -> Decision:
    return loss_not_worse(differences, sd=LOSS_SD)


def step_time_table() -> list[str]:
    rows = ["| machine | truly slower by | pairs of the first round | alarm in it | failed | passed | unstable |"]
    rows += ["|---|---:|---:|---:|---:|---:|---:|"]
    for machine, effects in SLOWER.items():
        for slower in effects:
            found = step_time_builds(machine, slower)
            first = shares([one for one, _ in found])[1]
            pairs = round(statistics.fmean(one.pairs for one, _ in found))
            passed, failed, unstable = shares([outcome for _, outcome in found])
            rows.append(f"| {machine.name} | {slower:.0%} | {pairs} | {first} | {failed} | {passed} | {unstable} |")
    return rows


def loss_table() -> list[str]:
    rows = ["| gate | seeds | true difference (nats) | failed | passed | unstable |", "|---|---:|---:|---:|---:|---:|"]
    gates: list[tuple[str, Gate, Sequence[int]]] = [
        ("loss not worse, own spread", loss_not_worse, (5, 8)),
        ("loss not worse, known spread", known_spread, (5,)),
        ("losses equal", losses_equal, (5, 8)),
    ]
    for name, gate, counts in gates:
        for seeds in counts:
            for gap in (0.0, 0.005, 0.01, 0.015, 0.02):
                passed, failed, unstable = shares(loss_builds(gate, seeds, gap))
                rows.append(f"| {name} | {seeds} | {gap:g} | {failed} | {passed} | {unstable} |")
    return rows


def main() -> None:
    print("\n".join([*step_time_table(), "", *loss_table()]))


if __name__ == "__main__":
    main()
