"""The check of the learning rate's size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rates import GroupRates, group_rates
from ..evidence.scripts import refuse_undeclared
from .check import Finding, check
from .sabotages.schedule import RATE_ABOVE_DECLARED, RATE_AS_FACTOR, RATE_ZERO

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# A rate that has stopped rising below this share of its base is no warm-up.
NEVER_RISES = 0.02


@check(
    "learning-rate-as-declared",
    "schedule",
    "the main parameter group trains at the declared learning rate, as its schedule scales it",
    controls=[RATE_ABOVE_DECLARED, RATE_AS_FACTOR, RATE_ZERO],
    catches=["https://www.peakinfer.com/blog/what-actually-works-with-lora"],
)
def learning_rate_as_declared(evidence: Evidence) -> Iterator[Finding]:
    refuse_undeclared(evidence, "lr")
    groups, declared = group_rates(evidence.trace), evidence.standard.job.lr
    if not groups or any(rate != rate for group in groups for rate in group.rates):
        raise NotApplicable("the optimizer's groups show no learning rate")
    shown = (f"rates of the first group: {', '.join(f'{rate:.3g}' for rate in groups[0].rates)}",)
    if max(group.peak for group in groups) <= 0:
        yield Finding(
            summary=f"the learning rate is 0 in all {len(groups[0].rates)} updates",
            cause="a rate of 0 is given to the optimizer, or the schedule's factor is 0 from the beginning on",
            remedy="give the optimizer job.lr, and the schedule the number of updates that are made",
        )
        return
    main = next((group for group in groups if _is_declared(group, declared)), None)
    if main is None:
        yield from _another_rate(groups, declared, shown)
    elif main.base is not None:
        yield from _scaled_wrongly(main, main.base, shown)


def _is_declared(group: GroupRates, declared: float) -> bool:
    rate = group.peak if group.base is None else group.base
    return abs(rate - declared) <= 1e-4 * declared


def _another_rate(groups: list[GroupRates], declared: float, shown: tuple[str, ...]) -> Iterator[Finding]:
    """No group has the declared rate. Where the loop sets rates by itself, one that changes may only be warming up."""
    bases = [group.base for group in groups if group.base is not None]
    if not bases and not all(group.is_constant or group.peak > declared * (1 + 1e-4) for group in groups):
        return
    found = bases[0] if bases else groups[0].peak
    yield Finding(
        summary=f"the learning rate is {found:.4g}, {found / declared:.3g} times the declared {declared:.4g}",
        cause="the training has a rate of its own, or takes another method's: full fine-tuning bears a tenth of "
        "LoRA's, or less",
        remedy="give the optimizer job.lr, or declare the rate that is meant (Full(lr=...), LoRA(lr=...))",
        evidence=shown,
    )


def _scaled_wrongly(group: GroupRates, base: float, shown: tuple[str, ...]) -> Iterator[Finding]:
    if group.peak > base * (1 + 1e-4):
        yield Finding(
            summary=f"the schedule raises the learning rate to {group.peak / base:.3g} times its base of {base:.4g}",
            cause="the schedule's function returns something other than a factor from 0 to 1 (a step, a rate)",
            remedy="return the factor on the base rate: 1 at the peak",
            evidence=shown,
        )
    is_rising = group.rates[-1] > group.rates[-2] if len(group.rates) > 1 else True
    if group.peak < NEVER_RISES * base and not is_rising:
        yield Finding(
            summary=f"the learning rate never exceeds {group.peak / base:.2g} times its base of {base:.4g}",
            cause="the schedule's function returns a learning rate and not a factor (so that the rate is squared), or "
            "its warm-up does not advance",
            remedy="return the factor on the base rate: 1 at the peak",
            evidence=shown,
        )
