"""The check that a warm-up comes to its end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rates import group_rates
from ..evidence.training import AUDIT_STEPS
from .check import Finding, check
from .sabotages.schedule import WARM_UP_AS_LONG_AS_THE_TRAINING

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace

LONGER = 2 * AUDIT_STEPS
# The rates of a linear warm-up lie on a line up to a few roundings.
STRAIGHT = 1e-3


@check(
    "warm-up-ends-before-the-training",
    "schedule",
    "the learning rate reaches its full height before the last update at the horizon",
    controls=[WARM_UP_AS_LONG_AS_THE_TRAINING],
    cost="training",
)
def warm_up_ends_before_the_training(evidence: Evidence) -> Iterator[Finding]:
    rising = _full_after(evidence.trace)
    if rising is None:
        return
    horizon = evidence.recipe.steps
    # A warm-up that is a share of the training is longer in a longer one; one of so many updates is not.
    longer = _full_after(evidence.varied(steps=LONGER).trace)
    if longer is None or abs(longer / rising - LONGER / AUDIT_STEPS) >= 0.2:
        _refuse_fixed(rising, horizon)
        return
    share = rising / AUDIT_STEPS
    # One that ends with the training is no warm-up either; two updates more or less are the counting.
    if share * horizon > horizon - 2:
        yield Finding(
            summary=f"the learning rate is still rising when the training ends: its warm-up takes {share:.3g} times "
            f"the training, of {horizon} updates",
            cause="warm-up steps are counted in rows or micro-batches, or given in the place of the schedule's length",
            remedy="warm up over a share of the updates, 3 to 10 %, and decay over the rest",
            evidence=(f"rates: {', '.join(f'{rate:.3g}' for rate in group_rates(evidence.trace)[0].rates)}",),
        )


def _refuse_fixed(updates: float, horizon: int) -> None:
    """A number of updates that is written down is that of the real training, of which a recipe is a short piece."""
    if updates > horizon - 2:
        raise NotApplicable(f"the warm-up takes {updates:.0f} updates, of {horizon} at this recipe's horizon")


def _full_after(trace: Trace) -> float | None:
    """After how many updates a rate that rises on a line to the end of the training would be at its base; None where it
    does not. NotApplicable where no schedule of torch scales a base.
    """
    groups = group_rates(trace)
    if not groups or groups[0].base is None:
        raise NotApplicable("no learning rate schedule of torch was built")
    rates, base = groups[0].rates, groups[0].base
    rises = [after - before for before, after in itertools.pairwise(rates)]
    if len(rises) < 3 or not min(rises) > 0 or max(rises) - min(rises) > STRAIGHT * max(rises):
        return None
    return (base - rates[0]) / rises[0]
