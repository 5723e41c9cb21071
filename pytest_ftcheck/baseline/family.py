"""Several gates in one build, and what one of them failed confirmed on fresh samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from .decision import PASSED, UNSTABLE, Decision
from .statistics import ALPHA

# A gate at the one-sided level that it is given.
Gate = Callable[[float], Decision]
# How often samples are taken before it is said that nothing can be decided.
MOST_ROUNDS = 5
# How many rounds of one verdict settle what began with an alarm, or with a pass that was close.
CONFIRMED = 2


def holm(gates: Mapping[str, Gate], alpha: float = ALPHA) -> dict[str, Decision]:
    """The decisions of all gates of a build, of which a sound build fails any with probability ``alpha`` at most.

    Holm's procedure: the smallest p of m is tested at alpha / m, the next at alpha / (m - 1), and so on until one does
    not fail; the others are decided at the level of that one. What is not finite fails whatever the level is.
    """
    first = {name: gate(alpha) for name, gate in gates.items()}
    # What is not finite fails by certainty: it takes part in no family.
    found = {name: decision for name, decision in first.items() if not decision.finite}
    left = sorted((name for name in gates if name not in found), key=lambda name: first[name].p)
    while left:
        level = alpha / len(left)
        decision = gates[left[0]](level)
        if not decision.failed:
            found |= {name: gates[name](level) for name in left}
            break
        found[left.pop(0)] = decision
    return {name: found[name] for name in gates}


def settled(rounds: Sequence[Decision]) -> Decision | None:
    """What repeated decisions of one gate, each on fresh samples, come to; None where another round is needed.

    The first that decides anything settles it where it passes, unless it was close. Otherwise two of one verdict do: so
    a false alarm takes two of three, and a process that happened to be fast does not hide a regression. A gate that has
    come to nothing after MOST_ROUNDS is unstable.
    """
    last = rounds[-1]
    failures = [one for one in rounds if one.failed]
    passes = [one for one in rounds if one.verdict == PASSED]
    if any(not one.finite for one in failures):
        return last
    if not failures and any(not one.close for one in passes):
        return last
    if len(failures) == CONFIRMED:
        return dataclasses.replace(last, reason=f"{last.reason}, confirmed on fresh samples")
    if len(passes) == CONFIRMED:
        what = "; an alarm was not confirmed" if failures else ", confirmed"
        return dataclasses.replace(last, reason=f"{last.reason}{what} on fresh samples")
    if len(rounds) < MOST_ROUNDS:
        return None
    return dataclasses.replace(last, verdict=UNSTABLE, reason=f"{last.reason}; {len(rounds)} rounds were made")
