"""Holding a run to account: what it did against what was declared.

Two degrees. An *objection* means that the run shows nothing: no number of it may be compared. A *deviation* means that
something trained otherwise than declared; whether that is a defect is for the user's test to say.
"""

from __future__ import annotations

import math

from .explained import Findings
from .run import ParameterTensor, Run
from .theory.differences import differences, first_few, grouped


def objections(run: Run) -> tuple[str, ...]:
    """Why nothing can be concluded from ``run``; empty where it is sound."""
    return tuple(text for text in (_no_supervision(run), _not_finite(run), _nothing_trains(run)) if text)


def deviations(run: Run) -> Findings:
    """Where ``run`` differs from its declaration, one line each, numbers first."""
    declared = run.parameters.declared
    found = [str(line) for line in grouped(differences(declared, run.parameters.by_module))] if declared else []
    if run.retried:
        found.append(f"trained with another batch than declared: {run.retried}")
    tensors = run.parameters.tensors
    idle: dict[str, list[ParameterTensor]] = {}
    for tensor in tensors:
        if tensor.trainable and not tensor.moved:
            idle.setdefault(_why_idle(tensor, run), []).append(tensor)
    found += [_line(group, "trainable but did not move", cause) for cause, group in idle.items()]
    moved = [t for t in tensors if t.moved and not t.trainable]
    if moved:
        found.append(_line(moved, "frozen but moved", "something other than a gradient changed them"))
    return Findings(found)


def _no_supervision(run: Run) -> str | None:
    counts = run.loss.supervised_tokens
    if not counts or counts[0] != 0:
        return None
    return (
        "0 supervised tokens in update 1: no position of the logits received a gradient\n"
        "  likely cause: every label is -100 (masking, truncation before the answer, a wrong response template)"
    )


def _not_finite(run: Run) -> str | None:
    for update, loss in enumerate(run.loss.train, start=1):
        if not math.isfinite(loss):
            earlier = f"the update before had {run.loss.train[update - 2]:.4g}"
            return (
                f"loss is {loss} in update {update} of {len(run.loss.train)} "
                f"({earlier if update > 1 else 'from the first update'}, learning rate {_rate(run, update):g})\n"
                "  likely cause: a learning rate that is too high, a batch without labels, or half precision's overflow"
            )
    for step, loss in run.loss.eval:
        if not math.isfinite(loss):
            return f"evaluation loss is {loss} after update {step}\n  likely cause: evaluation data without labels"
    return None


def _nothing_trains(run: Run) -> str | None:
    trainable = [t for t in run.parameters.tensors if t.trainable]
    if not trainable:
        return f"0 of {run.parameters.total:,} parameters are trainable\n  likely cause: the adapter or model is frozen"
    if any(t.moved for t in trainable):
        return None
    cause = " and ".join(dict.fromkeys(_why_idle(t, run) for t in trainable))
    return (
        f"0 of {run.parameters.trainable:,} trainable parameters moved in {len(run.loss.train)} updates\n"
        f"  likely cause: {cause}"
    )


def _why_idle(tensor: ParameterTensor, run: Run) -> str:
    """Why a trainable parameter did not move."""
    if not tensor.optimized:
        return "no optimizer holds them (was it built before the adapter?)"
    groups = (group for optimizer in run.optimizers for group in optimizer.groups)
    rates = [rate for group in groups if tensor.name in group.parameters for rate in group.lr]
    # None are known of a parameter that was added to an optimizer after its first step.
    if rates and not any(rates):
        return "their learning rate is 0 in every update"
    if not tensor.gradient:
        return "they received no gradient (unused, detached, or cut off by checkpointing)"
    return f"their updates are lost to rounding in {tensor.dtype}"


def _line(tensors: list[ParameterTensor], what: str, cause: str) -> str:
    names = first_few([t.name for t in tensors])
    return f"{sum(t.size for t in tensors):,} parameters are {what}: {cause} ({names})"


def _rate(run: Run, update: int) -> float:
    """The learning rate of an update, in the first group of the first optimizer."""
    for optimizer in run.optimizers:
        for group in optimizer.groups:
            if len(group.lr) >= update:
                return group.lr[update - 1]
    return math.nan
