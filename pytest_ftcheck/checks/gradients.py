"""Checks of the gradients of an update: they begin at zero, hold every micro-batch, and reach the optimizer's step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.accumulation import Window, multiple, windows
from ..evidence.names import first_few_of
from ..evidence.scripts import refuse_undeclared
from ..evidence.windows import norm
from .check import Finding, check
from .sabotages.gradients import (
    GRADIENTS_NEGATED,
    NO_ZERO_GRAD,
    STEPS_TWICE,
    UPDATE_PER_MICRO_BATCH,
    ZEROED_BEFORE_STEP,
    ZEROED_PER_MICRO_BATCH,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace
    from ..observers.update import Tensors


@check(
    "gradients-start-from-zero",
    "optimizer",
    "no gradient is left over when the first backward pass of an update begins",
    controls=[NO_ZERO_GRAD],
    catches=["https://thecodeforge.io/ml-ai/pytorch-basics/"],
)
def gradients_start_from_zero(evidence: Evidence) -> Iterator[Finding]:
    seen = windows(evidence)
    left = [window for window in seen if norm(window.left_over) > 0]
    if not left:
        return
    # In the last of them every parameter has had a gradient; the A matrices of LoRA have none in the first update.
    last = left[-1]
    names = sorted(name for name in last.left_over if _size(last.left_over, name) > 0)
    held = [name for name in last.held if _size(last.held, name) > 0]
    cause = "optimizer.zero_grad() is not called after each step"
    if left[0].number == 1 and len(left) == 1:
        cause = "a backward pass before the training left its gradients"
    elif len(names) < len(held):
        cause += " for all that the optimizer holds"
    yield Finding(
        summary=f"{len(left)} of {len(seen)} updates begin with gradients left over, in {len(names)} of {len(held)} "
        "tensors",
        cause=cause,
        remedy="call optimizer.zero_grad() once in each update, after step() or before the first backward()",
        evidence=(
            f"update {last.number}: norm {norm(last.left_over):.3g} before its first backward pass, "
            f"{norm(last.total):.3g} is what its own backward passes add",
            first_few_of(names),
        ),
    )


@check(
    "gradients-reach-the-step",
    "optimizer",
    "the optimizer's step is given the sum of the gradients of all micro-batches, up to one positive factor",
    controls=[ZEROED_PER_MICRO_BATCH, ZEROED_BEFORE_STEP, GRADIENTS_NEGATED],
)
def gradients_reach_the_step(evidence: Evidence) -> Iterator[Finding]:
    seen = windows(evidence)
    gone = list(_gone(seen))
    if gone:
        yield from gone
        return
    for describe in (_negated, _last_only):
        # One mistake shows in every update: one finding for it.
        found = [finding for window in seen for finding in describe(window)]
        if found:
            yield found[0]
            return


def _gone(seen: list[Window]) -> Iterator[Finding]:
    """Gradients of whole tensors that are there after a backward pass, and zero or absent at every step."""
    held = {name for window in seen for name in window.held if _size(window.held, name) > 0}
    lost = held - {name for window in seen for name in window.stepped if _size(window.stepped, name) > 0}
    if lost and lost == held:
        yield Finding(
            summary=f"{len(lost)} of {len(held)} gradients are gone before the step: the optimizer is given zeros",
            cause="zero_grad() is called between backward() and optimizer.step()",
            remedy="call backward(), then step(), then zero_grad()",
        )
    elif lost:
        yield Finding(
            summary=f"{len(lost)} of {len(held)} gradients are gone before the step",
            cause="they are set to None or zero between backward() and optimizer.step()",
            remedy="freeze what is not to train by requires_grad_(False), and leave the other gradients alone",
            evidence=(first_few_of(sorted(lost)),),
        )


def _negated(window: Window) -> Iterator[Finding]:
    factor = multiple(window.total, window.stepped, window.tolerance)
    if factor is not None and factor < 0:
        yield Finding(
            summary=f"update {window.number}: the step is given {factor:.3g} times the gradient, so the loss rises",
            cause="gradients are multiplied by a negative number after backward()",
            remedy="minimise the loss: leave the gradients' sign as backward() made it",
        )


def _last_only(window: Window) -> Iterator[Finding]:
    """The step's gradient is that of the last micro-batch and of no other."""
    parts = [part for part in window.contributions if norm(part) > 0]
    if len(parts) < 2 or multiple(window.total, window.stepped, window.tolerance) is not None:
        return
    if multiple(parts[-1], window.stepped, window.tolerance) is not None:
        yield Finding(
            summary=f"update {window.number}: the step is given the gradient of 1 of its {len(parts)} micro-batches",
            cause="zero_grad() is called at every micro-batch, so that only the last one's gradient is left",
            remedy="call zero_grad() once in each update, after optimizer.step()",
            evidence=(f"norms that the micro-batches added: {', '.join(f'{norm(part):.3g}' for part in parts)}",),
        )


def _size(tensors: Tensors, name: str) -> float:
    return norm({name: tensors[name]}) if name in tensors else 0.0


@check(
    "accumulation-as-declared",
    "optimizer",
    "an update is made of as many backward passes as the recipe accumulates; only an epoch's last may have fewer",
    controls=[UPDATE_PER_MICRO_BATCH, STEPS_TWICE],
)
def accumulation_as_declared(evidence: Evidence) -> Iterator[Finding]:
    refuse_undeclared(evidence, "accumulation")
    declared, counts = evidence.standard.job.accumulation, _counts(evidence.trace)
    shown = f"micro-batches of each update: {', '.join(map(str, counts))}; the recipe accumulates {declared}"
    if not any(counts):
        raise NotApplicable("no backward pass with a forward pass before it was seen")
    if 0 in counts:
        yield Finding(
            summary=f"{counts.count(0)} of {len(counts)} optimizer steps follow no backward pass",
            cause="optimizer.step() is called twice in an update, or in every iteration of the accumulation",
            remedy="call optimizer.step() once, after the last micro-batch of an update",
            evidence=(shown,),
        )
        return
    usual, _ = Counter(counts).most_common(1)[0]
    longer, shorter = [c for c in counts if c > declared], [c for c in counts if c < declared]
    if longer and usual == declared:
        yield _tail_carried_over(len(longer), len(counts), declared, shown)
    elif longer or len(shorter) > len(counts) / 2:
        yield Finding(
            summary=f"{len(longer) + len(shorter)} of {len(counts)} updates are not made of {declared} micro-batches",
            cause="the loop accumulates by a number of its own and not by job.accumulation"
            if usual != 1 or longer
            else "the optimizer steps at every micro-batch: accumulation is not in effect",
            remedy="step after job.accumulation micro-batches (Trainer: gradient_accumulation_steps=job.accumulation)",
            evidence=(shown,),
        )


def _tail_carried_over(longer: int, updates: int, declared: int, shown: str) -> Finding:
    return Finding(
        summary=f"{longer} of {updates} updates hold more than the declared {declared} micro-batches",
        cause="the micro-batches that an epoch ends with make no update, and their gradients go into the next epoch's "
        "first one (the index begins at 0 in each epoch)",
        remedy="step at the last batch of an epoch, too, or count micro-batches over epochs",
        evidence=(shown,),
    )


def _counts(trace: Trace) -> list[int]:
    """Backward passes of each update; several of one forward pass count once."""
    return [sum(bool(b.forwards) for b in update.backwards) for update in trace.updates]
