"""Checks of gradient clipping: to the declared norm, of all tensors together, once, and neither lost nor crushing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.accumulation import HALF, Window, multiple, windows
from ..evidence.windows import norm
from .check import Finding, check
from .sabotages.clipping import (
    CLIPPED_BEFORE_UNSCALING,
    CLIPPED_PER_MICRO_BATCH,
    CLIPPED_PER_TENSOR,
    CLIPPED_TO_NOTHING,
    CLIPPING_LOST,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.update import Tensors

# How far a clipped norm may be from its limit. torch divides by the norm plus 1e-6, and in bfloat16 computes it with 8
# bits: measured up to 0.9 %.
NEAR, NEAR_IN_HALF = 0.005, 0.03
# A clipped norm below the first that is less than the second of the true one leaves the optimizer noise.
CRUSHED_NORM, CRUSHED_SHARE = 0.01, 0.05


@check(
    "clipping-as-declared",
    "optimizer",
    "a gradient longer than the declared limit is cut to it, and a shorter one is left alone",
    controls=[CLIPPING_LOST, CLIPPED_TO_NOTHING],
    catches=["https://ttsugriy.github.io/llm-first-principles/stages/stage-08/common-mistakes"],
)
def clipping_as_declared(evidence: Evidence) -> Iterator[Finding]:
    limit = _declared_limit(evidence)
    seen = [_clipping(window) for window in windows(evidence)]
    lost = [
        (n, true, given) for n, true, given, near in seen if true > limit * (1 + near) and given > limit * (1 + near)
    ]
    short = [(n, true, given) for n, true, given, near in seen if not given >= min(true, limit) * (1 - near)]
    for wrong, cause, remedy in (
        (
            lost,
            "the gradients are not clipped, or before the last backward pass of the update, or others than the model's",
            f"clip_grad_norm_(model.parameters(), {limit:g}) after the last backward() and before step()",
        ),
        (
            short,
            "another limit than the declared one is in effect, or clipping comes before unscaling or averaging",
            f"clip to {limit:g}, or declare the limit that is meant (Recipe.max_grad_norm)",
        ),
    ):
        if wrong:
            number, true, given = wrong[0]
            yield Finding(
                summary=f"{len(wrong)} of {len(seen)} updates are not clipped to the declared norm {limit:g}",
                cause=cause,
                remedy=remedy,
                evidence=(f"update {number}: norm {true:.4g} after the last backward pass, {given:.4g} at the step",),
            )


def _declared_limit(evidence: Evidence) -> float:
    """The recipe's limit, or that of the trainer's arguments. NotApplicable where there is none, or where several
    optimizers may each clip their own parameters.
    """
    if len(evidence.trace.optimizers) > 1:
        raise NotApplicable("several optimizers make the updates; which of them clips is not known")
    record = evidence.standard.job.trainer
    of_trainer = getattr(record.arguments, "max_grad_norm", None) if record is not None else None
    limit = evidence.recipe.max_grad_norm or of_trainer
    if not limit:
        raise NotApplicable("neither the recipe (max_grad_norm) nor a trainer's arguments declare a limit")
    return float(limit)


def _clipping(window: Window) -> tuple[int, float, float, float]:
    """Number of the update, the true norm, the norm at the step, and how far apart two norms may be."""
    every = window.update.backwards[-1].after
    near = NEAR_IN_HALF if window.tolerance == HALF else NEAR
    return window.number, norm(every) / window.scale, norm(window.update.gradients), near


@check(
    "clipping-leaves-a-gradient",
    "optimizer",
    "clipping does not cut every gradient to almost nothing",
    controls=[CLIPPED_TO_NOTHING],
)
def clipping_leaves_a_gradient(evidence: Evidence) -> Iterator[Finding]:
    seen = [_clipping(window) for window in windows(evidence)]
    if any(given >= CRUSHED_NORM or given >= CRUSHED_SHARE * true or not given > 0 for _, true, given, _ in seen):
        return
    number, true, given, _ = seen[0]
    yield Finding(
        summary=f"{len(seen)} of {len(seen)} updates are clipped to a norm below {CRUSHED_NORM:g}",
        cause=f"the clipping limit (about {given:.2g}) is too small by orders of magnitude; Adam's step hides it "
        "from the loss",
        remedy="a limit at the gradients' usual norm: 0.3 to 1 for most models",
        evidence=(f"update {number}: norm {true:.4g} after the last backward pass, {given:.4g} at the step",),
    )


@check(
    "clipping-once-an-update",
    "optimizer",
    "gradients are not clipped or scaled down between the micro-batches of an update",
    controls=[CLIPPED_PER_MICRO_BATCH],
)
def clipping_once_an_update(evidence: Evidence) -> Iterator[Finding]:
    for window in windows(evidence):
        for accumulated, found in window.changes():
            factor = multiple(accumulated, found, window.tolerance)
            is_sum = multiple(window.total, window.stepped, window.tolerance) is not None
            if factor is not None and 0 < factor < 1 and not is_sum:
                yield Finding(
                    summary=f"update {window.number}: the accumulated gradient is cut to {factor:.3g} of itself "
                    "between micro-batches",
                    cause="clip_grad_norm_ is called after each backward() and not once an update: later micro-batches "
                    "count for more",
                    remedy="clip once, after the last backward() of the update",
                    evidence=(f"norm {norm(accumulated):.4g} before and {norm(found):.4g} after",),
                )
                return


@check(
    "clipping-by-the-global-norm",
    "optimizer",
    "clipping shortens the gradient of all parameters together, and so keeps its direction",
    controls=[CLIPPED_PER_TENSOR],
)
def clipping_by_the_global_norm(evidence: Evidence) -> Iterator[Finding]:
    for window in windows(evidence):
        cut = _cut_tensors(window)
        lengths = list(cut.values())
        if len(cut) >= 2 and max(lengths) <= min(lengths) * (1 + max(NEAR, 2 * window.tolerance)):
            yield Finding(
                summary=f"update {window.number}: {len(cut)} tensors are clipped one by one, to norm {lengths[0]:.4g}",
                cause="clip_grad_norm_ is called on each parameter by itself, which turns the update off its direction",
                remedy="call clip_grad_norm_ once, with all parameters",
            )
            return


def _cut_tensors(window: Window) -> dict[str, float]:
    """The tensors that were shortened more than others, by name, with their norm at the step. Empty where one of them
    has changed its direction.
    """
    factors: dict[str, float] = {}
    for name, gradient in window.held.items():
        if name in window.stepped and norm({name: gradient}) > 0:
            factor = multiple({name: gradient}, {name: window.stepped[name]}, window.tolerance)
            if factor is None or not factor > 0:
                return {}
            factors[name] = factor
    # What all have in common is clipping by the global norm, or a gradient scaler's factor.
    most = max(factors.values(), default=1.0)
    cut = [name for name, factor in factors.items() if factor < most * (1 - 4 * window.tolerance)]
    return {name: _length(window.stepped, name) for name in cut}


def _length(tensors: Tensors, name: str) -> float:
    return norm({name: tensors[name]})


@check(
    "clipping-after-unscaling",
    "optimizer",
    "gradients are divided by the gradient scaler's factor before they are clipped, and before the step",
    controls=[CLIPPED_BEFORE_UNSCALING],
)
def clipping_after_unscaling(evidence: Evidence) -> Iterator[Finding]:
    seen = [window for window in windows(evidence) if window.scale != 1]
    if not seen:
        raise NotApplicable("the training uses no gradient scaler")
    # A fused optimizer unscales within its step, if nobody has before.
    fused = any(group.settings.get("fused") for window in seen for group in window.update.groups)
    for window in seen:
        _, true, given, near = _clipping(window)
        scaled = true * window.scale
        # Unscaled and not clipped, given equals true; never unscaled, it equals scaled; clipped while scaled, it is the
        # limit divided by the scale, which no sensible limit reaches.
        if (given > true * (1 + near) and not fused) or (given < CRUSHED_NORM and given < CRUSHED_SHARE * true):
            yield Finding(
                summary=f"update {window.number}: gradients are scaled by {window.scale:g} when they are "
                + ("given to the step" if given > true else "clipped"),
                cause="scaler.unscale_(optimizer) is missing before clip_grad_norm_, or the step bypasses scaler.step",
                remedy="scaler.unscale_(optimizer), then clip_grad_norm_, then scaler.step(optimizer)",
                evidence=(f"norms: true {true:.4g}, scaled {scaled:.4g}, given to the step {given:.4g}",),
            )
            return
