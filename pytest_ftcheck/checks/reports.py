"""What is reported as the loss must be the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.lessons import IGNORED, is_encoder_decoder
from .check import Finding, check
from .sabotages.labels import IGNORED_LEARNED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence
    from ..observers.update import ForwardPass

# In float32 losses agree to 1e-5; bfloat16 has two to three digits.
CLOSE, CLOSE_ROUNDED = 1e-3, 0.02
# A trainer's log is a mean over the updates, rounded to four digits.
CLOSE_LOGGED = 5e-3
# Peft methods that add a term of their own to the model's loss.
REGULARISED = ("ADALORA",)


@check(
    "reported-loss-is-the-loss",
    "loss",
    "the loss that the model returns is the cross-entropy of its logits, and what is logged is what is differentiated",
    controls=[IGNORED_LEARNED],
    catches=[
        "https://github.com/huggingface/transformers/issues/34263",
        "https://github.com/huggingface/transformers/pull/35438",
    ],
)
def reported_loss_is_the_loss(evidence: Evidence) -> Iterator[Finding]:
    checked = 0
    for compare in (_returned, _logged):
        try:
            finding = compare(evidence)
        except NotApplicable:
            continue
        checked += 1
        if finding is not None:
            yield finding
    if not checked:
        raise NotApplicable("the model returned no cross-entropy of labels, and no trainer logged a loss")


def _returned(evidence: Evidence) -> Finding | None:
    """The model's own loss, against the cross-entropy of its logits and the labels that it was given."""
    _refuse_other_terms(evidence.trace.model)
    wrong, total, example = 0, 0, ""
    for forward in evidence.trace.forwards:
        expected, own = _from_labels(evidence.trace.model, forward), forward.own_loss
        if not expected or own is None:
            continue
        total += 1
        if not any(abs(own - value) <= _tolerance(forward) * max(abs(value), 1e-3) for value in expected):
            wrong += 1
            example = example or f"{own:.5g} where the cross-entropy is {expected[0]:.5g}"
    if not total:
        raise NotApplicable("the model returned no loss of labels that it was given")
    if not wrong:
        return None
    return Finding(
        summary=f"{wrong} of {total} losses that the model returned are not the cross-entropy of its logits: {example}",
        cause="the model's own loss shifts, masks or averages labels in another way, as some releases of a library do",
        remedy="compute the loss from the logits: cross_entropy(logits[:, :-1], labels[:, 1:], ignore_index=-100)",
    )


def _refuse_other_terms(model: nn.Module) -> None:
    """Mixtures of experts add a balancing loss, and AdaLoRA one of its ranks; the logits show neither."""
    config = getattr(model, "config", None)
    if getattr(config, "output_router_logits", False) or getattr(config, "aux_loss_alpha", 0):
        raise NotApplicable("the model adds a loss of its routers")
    for method in getattr(model, "peft_config", {}).values():
        if any(name in str(getattr(method, "peft_type", "")) for name in REGULARISED):
            raise NotApplicable("the adapter adds a term to the loss")


def _tolerance(forward: ForwardPass) -> float:
    import torch

    seen = (forward.logits, forward.logits_gradient)
    return CLOSE_ROUNDED if any(t is not None and torch.equal(t, t.bfloat16().float()) for t in seen) else CLOSE


def _from_labels(model: nn.Module, forward: ForwardPass) -> tuple[float, ...]:
    """The mean cross-entropy of the labels among the inputs, and the one over ``num_items_in_batch`` where that was
    given (how an update is scaled has a check of its own). Empty for models whose loss is another.
    """
    import torch
    import torch.nn.functional as F

    labels, logits, items = forward.inputs.get("labels"), forward.logits, forward.inputs.get("num_items_in_batch")
    if not isinstance(labels, torch.Tensor) or logits is None or logits.shape[:-1] != labels.shape or labels.dim() != 2:
        return ()
    if forward.inputs.get("shift_labels") is not None:
        return ()
    shifted = _shifted(model, logits, labels)
    if shifted is None:
        return ()
    logits, labels = shifted
    total = F.cross_entropy(logits.double().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    counts = [int((labels != IGNORED).sum()), float(items) if items is not None else 0.0]
    return tuple(float(total) / count for count in counts if count)


def _shifted(model: nn.Module, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
    """Logits and labels as they stand against each other in models of this kind; None where that is not known."""
    name = type(getattr(model, "get_base_model", lambda: model)()).__name__
    if "CausalLM" in name or "LMHeadModel" in name:
        return logits[:, :-1], labels[:, 1:]
    return (logits, labels) if is_encoder_decoder(model) else None


def _logged(evidence: Evidence) -> Finding | None:
    """The training loss in a Hugging Face trainer's log, against what was differentiated."""
    trainer = evidence.standard.job.trainer
    logged = [float(entry["train_loss"]) for entry in (trainer.logs if trainer else ()) if "train_loss" in entry]
    if not logged:
        raise NotApplicable("no trainer logged a training loss")
    updates = evidence.trace.updates
    mean = sum(update.loss for update in updates) / len(updates)
    if abs(logged[-1] - mean) <= CLOSE_LOGGED * max(1.0, abs(mean)):
        return None
    factor = f", {logged[-1] / mean:.3g} times as much" if mean and math.isfinite(mean) else ""
    return Finding(
        summary=f"the trainer logs a loss of {logged[-1]:.4g}{factor}; what it differentiated is {mean:.4g} on average",
        cause="the log and the gradient are divided by different numbers of micro-batches, or the log leaves NaN out",
        remedy="upgrade transformers; set logging_nan_inf_filter=False; trust the gradient norm rather than the log",
    )
