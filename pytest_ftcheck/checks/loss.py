"""Checks of the loss: what it means, and by how much each token counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.lessons import lessons
from ..evidence.softmax import share_softmaxed_twice
from ..evidence.weighing import Weighed, weighed
from .check import Finding, check
from .sabotages.loss import LOSS_SUMMED, MICRO_BATCHES_WEIGHTED, SMOOTHED_NOW_AND_THEN

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

ACCUMULATION = "https://huggingface.co/blog/gradient_accumulation"
# Weights told from gradients in float32 differ by 1e-5, from those in bfloat16 by 1 %.
SAME, SAME_ROUNDED = 1e-3, 0.03
# Label smoothing is found to within 1e-3 (measured), and nobody uses less than 0.01.
SMOOTHING = 5e-3


@check(
    "tokens-weigh-the-same",
    "loss",
    "within an update every supervised token counts the same, whichever micro-batch it is in",
    controls=[MICRO_BATCHES_WEIGHTED],
    catches=[
        "https://github.com/huggingface/transformers/pull/34191",
        "https://github.com/huggingface/transformers/issues/34242",
        ACCUMULATION,
    ],
)
def tokens_weigh_the_same(evidence: Evidence) -> Iterator[Finding]:
    updates = [update for update in _judged(evidence) if len(update.forwards) > 1]
    if not updates:
        raise NotApplicable("every update has one micro-batch: accumulation is 1")
    if not all(update.is_by_token for update in updates):
        raise NotApplicable("the loss weighs the tokens, or the rows, of one micro-batch differently by design")
    worst = max(updates, key=_unevenness)
    if _unevenness(worst) <= _tolerance(worst):
        return
    uneven = sum(not _unevenness(update) <= _tolerance(update) for update in updates)
    means = max(abs(part.total / worst.forwards[0].total - 1) for part in worst.forwards) <= _tolerance(worst)
    cause = "each micro-batch is averaged over its own tokens, and the averages are averaged: few tokens count for more"
    yield Finding(
        summary=f"{uneven} of {len(updates)} updates weigh their tokens unequally: in update {worst.number} one counts "
        f"{_unevenness(worst) + 1:.2f} times as much as another",
        cause=cause
        if means
        else "the micro-batches of an update are divided by token counts of different windows (at the "
        "end of an epoch, say), or scaled by different factors",
        remedy="sum the losses of an update's tokens and divide by their number in all of it (num_items_in_batch)",
        evidence=tuple(
            f"micro-batch {i}: {part.count} tokens of weight {part.weight:.3g} each, {part.total:.3g} together"
            for i, part in enumerate(worst.forwards[:4], 1)
        ),
    )


def _judged(evidence: Evidence) -> list[Weighed]:
    """The updates whose weights count: those before the first short window, where the user's data never end in one.
    transformers 4.46 takes the token counts of wrong windows from there on, and is right where all windows are full.
    """
    updates, rows, job = weighed(evidence), evidence.standard.job.train_data, evidence.standard.job
    if evidence.epochs_end_short or not hasattr(rows, "__len__"):
        return updates
    full = max(1, len(rows) // (job.batch_size * job.accumulation))
    return [update for update in updates if update.number <= full] or updates


def _unevenness(update: Weighed) -> float:
    weights = [part.weight for part in update.forwards]
    return max(weights) / min(weights) - 1


def _tolerance(update: Weighed) -> float:
    return SAME_ROUNDED if update.is_rounded else SAME


@check(
    "loss-scale-is-a-mean",
    "loss",
    "the gradient of an update is that of a mean over its tokens: their weights sum to 1",
    controls=[LOSS_SUMMED],
    catches=[
        "https://github.com/huggingface/transformers/pull/35207",
        "https://github.com/huggingface/transformers/issues/34263",
        "https://github.com/huggingface/trl/pull/3716",
    ],
)
def loss_scale_is_a_mean(evidence: Evidence) -> Iterator[Finding]:
    updates = _judged(evidence)
    if not all(update.is_by_token or update.is_by_row for update in updates):
        raise NotApplicable("the loss weighs tokens differently by design")
    full = Counter(len(update.forwards) for update in updates).most_common(1)[0][0]
    wrong = [update for update in updates if not _is_mean(update, full)]
    if not wrong:
        return
    one = max(wrong, key=lambda update: abs(math.log(max(update.total, 1e-30))))
    yield Finding(
        summary=f"{len(wrong)} of {len(updates)} updates take {one.total:.4g} times the gradient of the mean loss, "
        f"for example update {one.number}",
        cause=_scale_cause(one, full),
        remedy="divide by the number of tokens of the whole update, once; a Trainer does where its model's loss takes "
        "num_items_in_batch, or model_accepts_loss_kwargs is False",
        evidence=(
            f"update {one.number}: {len(one.forwards)} micro-batches, {one.count} tokens; all weights: {one.total:.4g}",
        ),
    )


def _is_mean(update: Weighed, full: int) -> bool:
    """Whether the weights sum to 1, or by a divisor that many trainers take for it: the number of labels before the
    shift, of which each row loses one; in a window cut short by the end of an epoch, that of a full one.
    """
    tolerance = _tolerance(update)
    least = update.count / (update.count + update.rows)
    short = min(1.0, len(update.forwards) / full)
    return any(least * share * (1 - tolerance) <= update.total <= share * (1 + tolerance) for share in (1.0, short))


def _scale_cause(update: Weighed, full: int) -> str:
    parts, count, total = len(update.forwards), update.count, update.total

    def near(value: float) -> bool:
        return abs(total / value - 1) < 0.05

    if full > 1 and (near(parts) or near(full)):
        return (
            f"the losses of {full} micro-batches are added up, and nothing divides by their number (a Trainer leaves "
            "that to models that take **kwargs, and some ignore num_items_in_batch)"
        )
    if full > 1 and (near(1 / full) or near(parts / full**2)):
        return f"the loss is divided by the number of micro-batches twice ({full} x {full})"
    if near(count) or near(count / parts):
        return "the loss is a sum over tokens (reduction='sum'), not their mean"
    if near(update.rows):
        return "the loss is a sum over rows, not their mean"
    return "the loss is multiplied by a factor, or divided by a wrong number of tokens"


@check(
    "label-smoothing-as-declared",
    "loss",
    "label smoothing is the same in all micro-batches, and what a trainer's arguments declare",
    controls=[SMOOTHED_NOW_AND_THEN],
)
def label_smoothing_as_declared(evidence: Evidence) -> Iterator[Finding]:
    found = [one.seen.smoothing for one in lessons(evidence) if one.seen.is_cross_entropy and not one.seen.is_rounded]
    if not found:
        raise NotApplicable("no cross-entropy in float32 was seen")
    if any((share_softmaxed_twice(one.forward) or 0.0) > 0.5 for one in lessons(evidence)):
        raise NotApplicable("the softmax is taken twice: see loss-is-taken-of-logits")
    least, most = min(found), max(found)
    if not most - least <= SMOOTHING:
        yield Finding(
            summary=f"label smoothing is {least:.3f} in some of {len(found)} micro-batches and {most:.3f} in others",
            cause="different code computes the loss of different batches: with and without smoothing",
            remedy="give all batches the same loss function",
        )
        return
    trainer = evidence.standard.job.trainer
    if trainer is not None and not abs(most - trainer.label_smoothing) <= SMOOTHING:
        yield Finding(
            summary=f"label smoothing is {most:.3f}; the trainer's arguments declare {trainer.label_smoothing:.3f}",
            cause="a compute_loss of one's own, or the model's own loss, takes no notice of label_smoothing_factor",
            remedy="pass label_smoothing=args.label_smoothing_factor to the cross-entropy, or declare none",
        )
