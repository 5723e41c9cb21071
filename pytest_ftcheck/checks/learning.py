"""Checks that a training learns: each update goes downhill, and so do all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.objective import called, holding, model_copy, objective
from .check import Finding, check
from .sabotages.learning import LOGIT_GRADIENTS_NEGATED, OBJECTIVE_CLIMBED, WEIGHTS_PUT_BACK

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace
    from ..observers.update import Update

# An update and its gradients point apart when this is the cosine between them or more: rounding and weight decay make a
# few percent, and a descent has -0.3 to -1 (measured; Adam's first step, the sign of the gradient, has about -0.7).
UPHILL = 0.1
# The step along an update that a slope is taken from, relative to the update.
STEP = 0.02
# The loss may rise by this much of itself: rounding of float32 sums of a few thousand terms.
ROUNDING = 1e-5
# So many updates on a few rows lower the loss of any training that learns.
LONG = 40


@check(
    "update-goes-downhill",
    "learning",
    "the first update moves the parameters against their gradients",
    controls=[OBJECTIVE_CLIMBED],
    catches=["https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html"],
)
def update_goes_downhill(evidence: Evidence) -> Iterator[Finding]:
    number, update = _first_moved(evidence.trace)
    slope, cosine = _along(update.gradients, _change(update))
    if not (cosine < UPHILL):
        yield Finding(
            summary=f"update {number} moved the parameters along their gradients: cosine {cosine:+.2f}, a descent has "
            "-1 to -0.1",
            evidence=(f"the loss rises by {slope:.3g} to first order",),
            cause="the step climbs: maximize=True, a negative learning rate, or gradients whose sign was changed "
            "between backward() and step()",
            remedy="maximize=False, a positive rate, and nothing between backward() and step() but clipping",
        )


def _first_moved(trace: Trace) -> tuple[int, Update]:
    """The first update, counted from 1, that changed a parameter that has a gradient. Earlier ones (a warm-up from 0)
    left no momentum behind that could point elsewhere.
    """
    for number, update in enumerate(trace.updates, start=1):
        if update.deep and any(bool(change.any()) for change in _change(update).values()):
            return number, update
    raise NotApplicable("no parameter with a gradient moved in the first updates")


def _change(update: Update) -> dict[str, Tensor]:
    """What the update added to each parameter that has a gradient."""
    return {name: update.after[name].double() - update.before[name].double() for name in update.gradients}


def _along(gradients: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> tuple[float, float]:
    """The sum of gradient x change, and the cosine between the two."""
    slope = sum(float((gradients[name].double() * change).sum()) for name, change in changes.items())
    sizes = [
        math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))
        for tensors in ([gradients[name] for name in changes], changes.values())
    ]
    product = sizes[0] * sizes[1]
    return slope, slope / product if product > 0 else 0.0


@check(
    "loss-falls-along-the-update",
    "learning",
    "the loss of a batch falls in the direction in which its update moves the parameters",
    controls=[LOGIT_GRADIENTS_NEGATED],
    cost="model",
)
def loss_falls_along_the_update(evidence: Evidence) -> Iterator[Finding]:
    number, update = _first_moved(evidence.trace)
    expected, cosine = _along(update.gradients, _change(update))
    if not (cosine < 0):
        raise NotApplicable("the update does not follow its gradients (see update-goes-downhill)")
    loss = objective(evidence, update.forwards)
    model = model_copy(evidence)
    values = []
    for step in (-STEP, STEP):
        moved = {n: p + step * (update.after[n] - p) for n, p in _widened(update.before, update.after)}
        with holding(model, moved):
            values.append(loss(model))
    slope = (values[1] - values[0]) / (2 * STEP)
    noise = ROUNDING * max(map(abs, values)) / STEP
    # Dropout, a normalisation that is not differentiated (DoRA) and auxiliary losses change the slope; none turns it.
    if slope > max(noise, 0.1 * abs(expected)) or math.isnan(slope):
        yield Finding(
            summary=f"the loss of the batch rises along update {number}, by {slope:.3g} to first order; its gradients "
            f"say {expected:.3g}",
            cause="the gradients are not those of the loss: its sign is changed, a hook or a custom backward pass "
            "alters them, or they are of another model or batch",
            remedy="call backward() on the loss itself, and look at hooks and custom autograd functions on the way",
        )


def _widened(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The parameters in a precision in which a small step along an update is not rounded away."""
    import torch

    for name, parameter in before.items():
        wide = parameter.double() if parameter.dtype is torch.float64 else parameter.float()
        yield name, wide if name in after else parameter


@check(
    "loss-falls-on-few-rows",
    "learning",
    "training on a few rows lowers their loss",
    controls=[OBJECTIVE_CLIMBED],
    cost="model",
)
def loss_falls_on_few_rows(evidence: Evidence) -> Iterator[Finding]:
    before, after = _before_and_after(evidence, evidence.trace)
    updates = len(evidence.trace.updates)
    if not _fell(before, after):
        # A large rate may overshoot at first; a training that learns has recovered by now.
        before, after = _before_and_after(evidence, evidence.varied(steps=LONG).trace)
        updates = LONG
    if not _fell(before, after):
        yield Finding(
            summary=f"the loss of the {updates} updates' own rows went from {before:.4g} to {after:.4g}",
            cause="the learning rate is too high for this method (full fine-tuning takes a tenth to a hundredth of "
            "LoRA's), the loss has the wrong sign, or what is trained is undone",
            remedy="lower the rate by 10; if the loss still rises, look at the loss and at what happens after step()",
        )


def _before_and_after(evidence: Evidence, trace: Trace) -> tuple[float, float]:
    """The loss of the rows of the first epoch with the first and with the last parameters of a training."""
    loss = objective(evidence, [forward for update in trace.updates[:3] for forward in update.forwards])
    model = model_copy(evidence)
    final = {name: parameter.detach() for name, parameter in trace.model.named_parameters()}
    values = []
    for parameters in (trace.initial, final):
        with holding(model, parameters):
            values.append(loss(model))
    return values[0], values[1]


def _fell(before: float, after: float) -> bool:
    return after <= before + ROUNDING * abs(before)


@check(
    "training-changes-the-outputs",
    "learning",
    "the model as training left it gives other outputs than before",
    controls=[WEIGHTS_PUT_BACK],
    catches=["https://github.com/huggingface/peft/issues/2115"],
    cost="model",
)
def training_changes_the_outputs(evidence: Evidence) -> Iterator[Finding]:
    import torch

    from ..observers.loss import logits_of

    trace, final = evidence.trace, evidence.standard.final
    _first_moved(trace)
    model, outputs = model_copy(evidence), []
    for parameters in (trace.initial, final):
        with holding(model, parameters):
            outputs.append(logits_of(called(model, trace.forwards[0].inputs)))
    if outputs[0] is None or outputs[1] is None or not torch.equal(outputs[0], outputs[1]):
        return
    put_back = all(torch.equal(trace.initial[name], final[name]) for name in final)
    yield Finding(
        summary=f"after {len(trace.updates)} updates the outputs are those of before training, to the last bit",
        cause="the trained weights were put back to what they were (a best checkpoint or averaged weights that hold "
        "the initial ones)"
        if put_back
        else "what moved has no part in the outputs: the adapter is switched off or another one is active, or the "
        "trained module is not the one that is called",
        remedy="look at what runs after the last step()"
        if put_back
        else "model.set_adapter(name), enable_adapters(), and train the modules that forward() calls",
    )
