"""The check that chance is not the same in every update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.evaluations import is_unused
from .check import Finding, check
from .mode import dropout_rates
from .sabotages.mode import SEEDED_IN_EVERY_UPDATE

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence


@check(
    "dropout-is-drawn-anew",
    "mode",
    "no two updates draw their dropout from one and the same state of the random numbers",
    controls=[SEEDED_IN_EVERY_UPDATE],
)
def dropout_is_drawn_anew(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    dropping = set(dropout_rates(trace.model))
    updates: Counter[int] = Counter()
    judged = 0
    for update in trace.updates:
        taught = [f for f in update.forwards if not is_unused(f) and dropping.difference(f.in_eval_mode)]
        # A rate may be declared and never drawn by: then the state does not change, whoever seeds.
        drawn = {before for before, after in (forward.generators for forward in taught) if before != after}
        judged += bool(drawn)
        updates.update(drawn)
    if judged < 2:
        raise NotApplicable("fewer than two updates have dropout on")
    again = max(updates.values())
    if again > 1:
        yield Finding(
            summary=f"{again} of {judged} updates begin with the generator in the same state, and drop the same units",
            cause="a seed is set inside the loop (torch.manual_seed in every step or epoch, or in a function that the "
            "loop calls): dropout is then one fixed, smaller network",
            remedy="seed once, before the loop",
        )
