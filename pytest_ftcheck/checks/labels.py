"""Checks of what is supervised: read off the gradient of the logits, so that they hold for any loss function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .check import Finding, NotApplicable, check
from .sabotages.labels import LABELS_NOT_SHIFTED, LABELS_SHIFTED_TWICE
from .supervision import supervision

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.trace import ForwardPass
    from .evidence import Evidence

# How many of the supervised tokens must agree on a shift before it is called one: copies and repeats agree by chance.
MOST = 0.98


@check(
    "labels-shifted-once",
    "labels",
    "each position of a causal language model is taught the token that follows it",
    controls=[LABELS_NOT_SHIFTED, LABELS_SHIFTED_TWICE],
    catches=["https://github.com/macrocosm-os/pretraining/pull/64"],
)
def labels_shifted_once(evidence: Evidence) -> Iterator[Finding]:
    agreeing = _agreement_by_shift(evidence.trace.forwards)
    best = max(agreeing, key=lambda shift: agreeing[shift])
    if agreeing[best] < MOST or agreeing[1] >= MOST:
        return
    taught = {0: "the token that they are at", 2: "the token after next", -1: "the token before"}[best]
    yield Finding(
        summary=f"{agreeing[best]:.1%} of the supervised positions are taught {taught}; the next token: {agreeing[1]:.1%}",
        cause="the loss shifts labels and logits against each other "
        + ("nowhere" if best == 0 else "twice: in the data and again in the loss" if best == 2 else "backwards"),
        remedy="shift exactly once: logits[:, :-1] against labels[:, 1:], or leave it to the model's own loss",
    )


def _agreement_by_shift(forwards: list[ForwardPass]) -> dict[int, float]:
    """Shift -> share of the supervised positions whose target is the input that many positions on."""
    hits, total = {-1: 0, 0: 0, 1: 0, 2: 0}, 0
    for forward in forwards:
        seen, ids = supervision(forward), forward.input_ids
        if seen is None or ids is None or seen.targets.shape != ids.shape or not seen.is_cross_entropy:
            continue
        inner = seen.supervised.clone()
        inner[:, -2:], inner[:, :1] = False, False
        total += int(inner.sum())
        for shift in hits:
            hits[shift] += int((_moved(ids, shift) == seen.targets)[inner].sum())
    if not total:
        raise NotApplicable("no cross-entropy over the tokens of the input was seen")
    return {shift: count / total for shift, count in hits.items()}


def _moved(ids: Tensor, by: int) -> Tensor:
    """``ids`` [rows, length] with each position holding the token ``by`` positions on."""
    return ids.roll(-by, dims=1)
