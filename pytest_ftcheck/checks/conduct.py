"""Checks of how a training behaves as a guest: it runs, it ends, and it leaves the house as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import FtcheckError, NotApplicable
from ..evidence.names import first_few_of
from .check import Finding, check
from .sabotages.conduct import (
    ANOTHER_MODEL,
    GRADIENT_NOT_A_NUMBER,
    NEVER_BACKWARD,
    RAISES,
    SETTINGS_LEFT,
    STOPS_EARLY,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace
    from ..observers.update import Update

# Settings that a training may choose for the whole process, since they change no number that another one computes.
CHOSEN = ("deterministic algorithms",)


@check(
    "training-completes",
    "conduct",
    "train(job) runs to its end and makes job.steps updates of job.model",
    controls=[RAISES, STOPS_EARLY, ANOTHER_MODEL],
)
def training_completes(evidence: Evidence) -> Iterator[Finding]:
    try:
        training = evidence.standard
    except FtcheckError as error:
        yield _told(error)
        return
    updates, asked = len(training.trace.updates), training.job.steps
    if updates != asked:
        yield Finding(
            summary=f"{updates} updates instead of {asked}",
            cause="the loop does not take its length from job.steps (a Trainer: max_steps=job.steps), or ends with the "
            "data",
            remedy="end after job.steps optimizer updates, and begin the data anew as often as that takes",
        )


def _told(error: FtcheckError) -> Finding:
    """A training that did not run, in the words of the error that says so."""
    first, *others = str(error).splitlines()
    told = [line.strip() for line in others]
    cause = next((line.removeprefix("likely cause: ") for line in told if line.startswith("likely cause: ")), None)
    return Finding(
        summary=first,
        cause=cause or "an error of the training itself, or a part of the recipe that does not fit",
        remedy="make the recipe's train(job) run by itself for a few updates; every other check waits for it",
        evidence=tuple(line for line in told if not line.startswith("likely cause: "))[:3],
    )


@check(
    "backward-before-every-update",
    "conduct",
    "every update follows a backward pass of its own",
    controls=[NEVER_BACKWARD],
)
def backward_before_every_update(evidence: Evidence) -> Iterator[Finding]:
    updates = evidence.trace.updates
    without = [number for number, update in enumerate(updates, start=1) if not update.backwards]
    if len(without) == len(updates) and any(update.gradients for update in updates):
        raise NotApplicable("gradients are made in another way than by backward() of a scalar loss")
    if without:
        numbers = ", ".join(map(str, without[:5]))
        yield Finding(
            summary=f"{len(without)} of {len(updates)} updates follow no backward pass (update {numbers})",
            cause="backward() is not called, or optimizer.step() twice for one of it: gradients are missing, or stale",
            remedy="call backward() for every micro-batch, optimizer.step() and zero_grad() once after a window of "
            "them",
        )


@check(
    "finite-throughout",
    "conduct",
    "losses, gradients and trained parameters are finite in every update, whatever the log shows",
    controls=[GRADIENT_NOT_A_NUMBER],
)
def finite_throughout(evidence: Evidence) -> Iterator[Finding]:
    import torch

    trace, final = evidence.trace, evidence.standard.final
    for number, update in enumerate(trace.updates, start=1):
        wrong = _not_finite(update)
        if wrong:
            yield Finding(
                summary=f"{wrong} in update {number} of {len(trace.updates)}",
                cause="a batch without a supervised token (0/0), a learning rate that is too high, or half precision's "
                "overflow; a Trainer's log hides it (logging_nan_inf_filter)",
                remedy="find the batch or the layer (torch.autograd.set_detect_anomaly), and do not filter the log",
                evidence=(f"losses: {_losses(trace)}",),
            )
            return
    broken = [
        name for name, on in trace.trainable.items() if on and name in final and not torch.isfinite(final[name]).all()
    ]
    if broken:
        yield Finding(
            summary=f"{len(broken)} trained tensors hold NaN or infinity after {len(trace.updates)} updates",
            cause="the optimizer's step made them: a division by zero, or a learning rate that is not finite",
            remedy="look at the optimizer's eps and learning rate",
            evidence=(first_few_of(broken),),
        )


def _not_finite(update: Update) -> str | None:
    losses = [backward.loss for backward in update.backwards if not math.isfinite(backward.loss)]
    if losses:
        return f"the loss is {losses[0]}"
    if update.not_finite:
        return f"{len(update.not_finite)} gradients hold NaN or infinity ({first_few_of(update.not_finite)})"
    return None


def _losses(trace: Trace) -> str:
    return ", ".join(f"{update.loss:.4g}" for update in trace.updates)


@check(
    "global-state-untouched",
    "conduct",
    "after train(job) the settings of the whole process are what they were before",
    controls=[SETTINGS_LEFT],
)
def global_state_untouched(evidence: Evidence) -> Iterator[Finding]:
    before, after = evidence.standard.settings_before, evidence.standard.settings_after
    for what in before:
        if before[what] != after.get(what) and what not in CHOSEN:
            yield Finding(
                summary=f"{what}: {before[what]} before train(job), {after.get(what)} after it",
                cause="the training sets it and does not set it back: what runs next in the process computes otherwise",
                remedy="use the setting as a context manager, or set it back in a finally",
            )
