"""Checks that the same rows give the same update, in however many batches: gradients are compared, since clipping and
Adam hide every mistake of scale from the loss curve, and loops have logged a right loss beside a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.windows import Difference, difference, same_rows, share_of_first
from .check import Finding, check
from .sabotages.equivalence import (
    LOST_BETWEEN_MICRO_BATCHES,
    MEAN_OF_MEANS,
    NOT_DIVIDED,
    SHORT_WINDOW_DIVIDED_IN_FULL,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evidence.evidence import Evidence
    from ..observers.update import Update

# An epoch of the audit: two full windows and the short one.
EPOCH = 3
FULL_WINDOWS, SHORT_WINDOW = range(2), 2


@check(
    "accumulation-equals-one-large-batch",
    "equivalence",
    "the rows of an update give the same gradient in several micro-batches as in one batch",
    controls=[NOT_DIVIDED, MEAN_OF_MEANS, LOST_BETWEEN_MICRO_BATCHES],
    catches=[
        "https://github.com/huggingface/transformers/pull/34191",
        "https://github.com/huggingface/transformers/pull/35207",
        "https://github.com/huggingface/trl/pull/3716",
    ],
    cost="training",
)
def accumulation_equals_one_large_batch(evidence: Evidence) -> Iterator[Finding]:
    whole, split = _accumulated(evidence)
    pairs = [(whole[i], split[i]) for i in FULL_WINDOWS if comparable(whole, split, i)]
    if not pairs:
        raise NotApplicable("with another batch size the first windows hold other rows")
    found = next((d for d in (difference(*pair) for pair in pairs) if d is not None), None)
    if found is not None and found.kind in ("coupled", "unknown"):
        yield _undivided(evidence, found, split[0])
    elif found is not None:
        yield _finding(found, whole[0], split[0])


@check(
    "last-window-counts-in-full",
    "equivalence",
    "the short window at the end of an epoch gives the gradient of its own rows, neither divided too often nor mixed",
    controls=[SHORT_WINDOW_DIVIDED_IN_FULL],
    catches=["https://github.com/huggingface/transformers/pull/34191"],
    cost="training",
)
def last_window_counts_in_full(evidence: Evidence) -> Iterator[Finding]:
    _refuse_even_epochs(evidence)
    whole, split = _accumulated(evidence)
    if len(split) <= SHORT_WINDOW:
        raise NotApplicable("the loop ends before its first epoch does")
    full, short = len(split[0].backwards), len(split[SHORT_WINDOW].backwards)
    if full < short < 2 * full:
        yield _left_over(full, short)
    elif short < full and comparable(whole, split, SHORT_WINDOW):
        found = difference(whole[SHORT_WINDOW], split[SHORT_WINDOW])
        # Where full windows differ, too, that is the cause, and the other check says so.
        if found is not None and difference(whole[0], split[0]) is None:
            yield _short_window(found, full, short)


def _accumulated(evidence: Evidence) -> tuple[list[Update], list[Update]]:
    """The first epoch with each update's rows in one batch, and in micro-batches as declared: both without dropout and
    at the same parameters throughout.
    """
    size, accumulation = evidence.recipe.batch_size, evidence.recipe.accumulation
    if accumulation == 1:
        raise NotApplicable("the recipe does not accumulate gradients")
    whole, split = first_epoch(evidence, size * accumulation, 1), first_epoch(evidence, size, accumulation)
    refuse_equal_batches(whole, split)
    return whole, split


def refuse_equal_batches(whole: Sequence[Update], split: Sequence[Update]) -> None:
    if len(split[0].backwards) == len(whole[0].backwards):
        raise NotApplicable("the loop takes its batch size or accumulation from elsewhere than the job")


def first_epoch(evidence: Evidence, batch_size: int, accumulation: int) -> list[Update]:
    made = evidence.varied(
        steps=EPOCH, batch_size=batch_size, accumulation=accumulation, without_dropout=True, still=True
    )
    if not made.trace.updates[0].backwards:
        raise NotApplicable("no backward pass of a scalar loss was seen")
    return made.trace.updates


def comparable(whole: Sequence[Update], split: Sequence[Update], index: int) -> bool:
    both = len(whole) > index and len(split) > index
    return both and bool(whole[index].backwards and split[index].backwards) and same_rows(whole[index], split[index])


def _undivided(evidence: Evidence, found: Difference, split: Update) -> Finding:
    """Of a loss that does not add up over batches (means of preferences, contrasts within a batch) only this is known:
    in a window of several, a micro-batch counts for less than it does alone. NotApplicable where it does.
    """
    count = len(split.backwards)
    share = share_of_first(first_epoch(evidence, evidence.recipe.batch_size, 1)[0], split)
    if share is None or share < 0.99:
        reasons = {"coupled": "the loss of a row depends on the rows beside it", "unknown": "no logits show why"}
        raise NotApplicable(f"gradients differ by {found.distance:.2%}, and {reasons[found.kind]}")
    return Finding(
        summary=f"{share:.4g} times the gradient that it has alone is what the first of {count} micro-batches adds",
        cause="the losses of the micro-batches are added up, and nothing divides by their number",
        remedy="divide the loss by the accumulation; with a Trainer whose compute_loss ignores num_items_in_batch: "
        "model_accepts_loss_kwargs = False",
        evidence=("the loss of a row depends on the rows beside it, so that gradients of other batches differ anyway",),
    )


def _finding(found: Difference, whole: Update, split: Update) -> Finding:
    count = len(split.backwards)
    summary, cause, remedy = {"factor": _factor, "weights": _weights, "lost": _lost}[found.kind](found, count)
    objective = f"objective of update 1: {whole.loss:.6g} in one batch, {split.loss:.6g} in {count} micro-batches"
    return Finding(summary, cause, remedy, (objective,))


def _factor(found: Difference, count: int) -> tuple[str, str, str]:
    summary = f"{found.factor:.4g} times the gradient of one batch when its rows come in {count} micro-batches"
    if abs(found.factor / count - 1) < 0.01:
        cause = "each micro-batch's loss is a mean of its own and is not divided by the number of micro-batches"
        remedy = (
            "divide the loss by the accumulation, or the summed loss by all supervised tokens; with a Trainer whose "
            "model takes num_items_in_batch and ignores it: model.accepts_loss_kwargs = False"
        )
        return summary, cause, remedy
    if abs(found.factor * count - 1) < 0.01:
        cause = (
            f"the loss is divided by the number of micro-batches ({count}) once too often: by the loop and by the loss"
        )
        return summary, cause, "divide in one place only; a Trainer divides (or passes num_items_in_batch) by itself"
    cause = "something scales the loss or the gradients by an amount that depends on the accumulation"
    return summary, cause, "make one update's gradient the mean over all its supervised tokens"


def _weights(found: Difference, count: int) -> tuple[str, str, str]:
    undivided = abs(found.factor / count - 1) < 0.02
    much = f"{found.factor:.3g} times too much in all, and " if undivided else ""
    return (
        f"{found.distance:.1%} off the gradient of one batch in {count} micro-batches: {much}some rows count "
        f"{found.spread:.3g} times as much as others",
        ("the micro-batches' losses are not divided by their number" if undivided else "a mean of micro-batch means")
        + ": each is a mean of its own, so where few tokens are supervised, each of them counts too much",
        "divide the summed loss by the supervised tokens of the whole window (num_items_in_batch), and not those of "
        "each "
        "micro-batch",
    )


def _lost(found: Difference, count: int) -> tuple[str, str, str]:
    summary = f"{found.distance:.1%} off the gradient of one batch in {count} micro-batches: "
    if found.factor == 0:
        return (
            summary + "what the earlier ones accumulated is gone before the last",
            "gradients are zeroed in every micro-batch instead of once an update",
            "call zero_grad() only after optimizer.step()",
        )
    return (
        summary + f"{found.factor:.0%} of the accumulated norm is left before the next one",
        "gradients are clipped or scaled after every micro-batch instead of once an update",
        "clip once, after the last backward pass of a window and before optimizer.step()",
    )


def _refuse_even_epochs(evidence: Evidence) -> None:
    """Raise NotApplicable where no epoch of the user's own data ends with a short window."""
    if evidence.recipe.accumulation == 1:
        raise NotApplicable("the recipe does not accumulate gradients")
    if not evidence.epochs_end_short:
        raise NotApplicable("no epoch of the data ends with a short window")


def _left_over(full: int, short: int) -> Finding:
    return Finding(
        summary=f"{short} micro-batches in the update after an epoch's end, where others have {full}",
        cause=f"the {short - full} micro-batches left at the end of an epoch get no update of their own, and their "
        "gradients are added to the next epoch's first window",
        remedy="step the optimizer after the last micro-batch of an epoch, too, or drop what is left",
    )


def _short_window(found: Difference, full: int, short: int) -> Finding:
    own = found.kind == "factor" and abs(found.factor * full / short - 1) < 0.01
    return Finding(
        summary=f"{found.factor:.4g} times the gradient of its rows in the last window of an epoch, of {short} of "
        f"{full} micro-batches"
        if found.kind == "factor"
        else f"{found.distance:.1%} off the gradient of its rows in the last window of an epoch ({short} of {full})",
        cause=f"its loss is divided by the accumulation ({full}) and not by the {short} micro-batches that it has"
        if own
        else "the last window is not weighted like the others",
        remedy="divide by the micro-batches of the window itself, or by its supervised tokens",
    )
