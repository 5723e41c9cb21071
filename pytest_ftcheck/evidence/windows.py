"""Two trainings' ways to the same update compared: the rows of a window in one batch, or in several micro-batches."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from .rows import row_keys

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.update import Backward, ForwardPass, Tensors, Update

# Gradients of the same rows in other batches differ by rounding alone. Measured over 10 tiny architectures: at most
# 4e-7 of the gradient's norm in float32, and 0.017 where weights are in bfloat16, whose spacing is 2^-8; logits 4e-7
# and 0.008. The limits leave room for larger models, and for float32 on hardware that multiplies in TF32 (2^-11).
FLOAT32, HALF = 1e-3, 0.1
# Two directions count as one from this cosine on.
PARALLEL = {FLOAT32: 0.99999, HALF: 0.99}


@dataclass(frozen=True)
class TaughtRow:
    """The logits [taught positions, vocabulary] of one row where the loss reached them, and its gradient there."""

    logits: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Difference:
    """How a window's gradient in micro-batches differs from that of the same rows in one batch.

    ``kind``: "factor" (a multiple, ``factor``), "weights" (rows count differently in different micro-batches;
    ``spread`` is the largest over the smallest weight, ``factor`` their mean), "lost" (what one micro-batch had
    accumulated was gone or changed before the next: ``factor`` of its norm was left), "coupled" (a row's own loss
    depends on the rows beside it) or "unknown" (no logits to tell by). ``distance`` is relative to the norm of the
    gradient in one batch.
    """

    kind: str
    distance: float
    factor: float = 1.0
    spread: float = 1.0


def same_rows(one: Update, other: Update) -> bool:
    """Whether two updates were made from the same rows, in whatever order and batches."""
    rows = [Counter(key for forward in u.forwards for key in row_keys(forward)) for u in (one, other)]
    return bool(rows[0]) and rows[0] == rows[1]


def tolerance(update: Update) -> float:
    """How far gradients of the same rows may be apart, by the precision that ``update`` was computed in."""
    import torch

    halves = (torch.bfloat16, torch.float16)
    if any(value.dtype in halves for value in update.before.values()):
        return HALF
    # Autocast leaves the parameters in float32, but no logit needs more bits than the half type has.
    logits = next((f.logits for f in update.forwards if f.logits is not None), None)
    in_half = logits is not None and any(bool((logits.to(h).float() == logits).all()) for h in halves)
    return HALF if in_half else FLOAT32


def difference(whole: Update, split: Update) -> Difference | None:
    """What sets the gradient of ``split`` apart from that of ``whole``, which was made from the same rows at the same
    parameters; None where nothing does. Raises NotApplicable where gradients were not kept or are all zero.
    """
    near = max(tolerance(whole), tolerance(split))
    expected, found = accumulated(whole), accumulated(split)
    if not norm(expected) > 0:
        raise NotApplicable("the gradient of the first update is zero or was not seen")
    distance = relative_distance(expected, found)
    if distance <= near:
        return _difference_at_the_step(whole, split, near)
    left = _left_between_micro_batches(split.backwards)
    if left is not None:
        return Difference("lost", distance, factor=left)
    factor = dot(found, expected) / dot(expected, expected)
    if factor > 0 and relative_distance(expected, found, factor) <= near * factor:
        return None if _made_up_for(whole, split, near) else Difference("factor", distance, factor)
    return _by_rows(whole, split, distance, near)


def accumulated(update: Update) -> Tensors:
    """What the backward passes of an update added to the gradients, without the scale of a gradient scaler."""
    first, last = update.backwards[0], update.backwards[-1]
    # Bigger than one, where an earlier window left gradients behind, which are another check's affair.
    return {
        name: (g.double() - (first.before[name].double() if name in first.before else 0)) / last.scale
        for name, g in last.after.items()
    }


def share_of_first(alone: Update, split: Update) -> float | None:
    """By what factor the first micro-batch of ``split`` counts, compared with the same rows as an update of their own;
    None where the rows are not the same, or the gradient is another one. It needs no loss that adds up over batches.
    """
    rows = [[key for forward in update.backwards[0].forwards for key in row_keys(forward)] for update in (alone, split)]
    first, near = split.backwards[0], max(tolerance(alone), tolerance(split))
    expected = accumulated(alone)
    found = {
        name: (g.double() - (first.before[name].double() if name in first.before else 0)) / first.scale
        for name, g in first.after.items()
    }
    if not rows[0] or sorted(rows[0]) != sorted(rows[1]) or len(alone.backwards) != 1 or not norm(expected) > 0:
        return None
    factor = dot(found, expected) / dot(expected, expected)
    return factor if factor > 0 and relative_distance(expected, found, factor) <= near * factor else None


def norm(tensors: Tensors) -> float:
    return math.sqrt(dot(tensors, tensors))


def dot(one: Tensors, other: Tensors) -> float:
    """The inner product over all names; a missing tensor counts as zero."""
    return sum(float((one[n].double() * other[n].double()).sum()) for n in one.keys() & other.keys())


def relative_distance(expected: Tensors, found: Tensors, factor: float = 1.0) -> float:
    """|found − factor · expected| relative to |expected|."""
    squares = dot(found, found) - 2 * factor * dot(found, expected) + factor**2 * dot(expected, expected)
    # The expansion loses half of float64's digits, which are ten more than float32 gives.
    return math.sqrt(abs(squares) / dot(expected, expected))


def _difference_at_the_step(whole: Update, split: Update, near: float) -> Difference | None:
    """The gradients were equal when the last backward pass ended; the optimizer must be given equal ones, too."""
    if not whole.gradients or not split.gradients or any(u.backwards[-1].scale != 1 for u in (whole, split)):
        return None
    distance = relative_distance(whole.gradients, split.gradients)
    factor = dot(split.gradients, whole.gradients) / (dot(whole.gradients, whole.gradients) or math.inf)
    is_multiple = factor > 0 and relative_distance(whole.gradients, split.gradients, factor) <= near * factor
    return Difference("factor", distance, factor) if distance > near and is_multiple else None


def _made_up_for(whole: Update, split: Update, near: float) -> bool:
    """Whether a factor on the accumulated gradients is gone at the optimizer's step and no clipping hides it: a loop
    may as well divide the gradients as the loss.
    """
    if not whole.gradients or relative_distance(whole.gradients, split.gradients) > near:
        return False
    shares = [norm(u.gradients) / norm(accumulated(u)) for u in (whole, split)]
    # Clipping only ever makes a gradient shorter, to a norm that the limit sets; a division is by a whole number.
    return all(_is_whole(1 / share) or _is_whole(share) for share in shares)


def _is_whole(number: float) -> bool:
    return round(number) >= 1 and abs(number - round(number)) < 1e-3 * number


def _left_between_micro_batches(backwards: list[Backward]) -> float | None:
    """The smallest share of an accumulated gradient that was left before the next backward pass; None: all of it."""
    shares = []
    for earlier, later in itertools.pairwise(backwards):
        before, after = norm(earlier.after), norm(later.before)
        if before > 0 and relative_distance(earlier.after, later.before) > 1e-6:
            shares.append(after / before)
    return min(shares) if shares else None


def _by_rows(whole: Update, split: Update, distance: float, near: float) -> Difference:
    """By each row's gradient at its logits, relative to that in one batch: weights that differ, or something else."""
    ratios, positions = [], []
    expected, found = taught_rows(whole), taught_rows(split)
    for key in expected.keys() & found.keys():
        for one, other in zip(expected[key], found[key], strict=False):
            ratio = _ratio(one, other, near)
            if ratio is None:
                return Difference("coupled", distance)
            ratios.append(ratio)
            positions.append(len(one.logits))
    if not ratios:
        return Difference("unknown", distance)
    spread = max(ratios) / min(ratios)
    if spread - 1 <= near:
        # The loss weighs every row alike, so it is the model itself that sees its batch (a router's auxiliary loss).
        return Difference("coupled", distance)
    # Means of n micro-batches add up to n times the mean over all positions, whatever their sizes; their mean to one.
    total = sum(ratio * count for ratio, count in zip(ratios, positions, strict=True)) / sum(positions)
    return Difference("weights", distance, factor=total, spread=spread)


def _ratio(one: TaughtRow, other: TaughtRow, near: float) -> float | None:
    """The factor between a row's gradients in two batches; None where they differ by more than a factor."""
    if one.gradient.shape != other.gradient.shape:
        return None
    a, b = one.gradient.double().flatten(), other.gradient.double().flatten()
    cosine = float(a @ b / (a.norm() * b.norm()))
    return float(b.norm() / a.norm()) if cosine >= PARALLEL[near] else None


def taught_rows(update: Update) -> dict[str, list[TaughtRow]]:
    """The rows of an update that a loss reached, by key; empty where no logits show them."""
    found: dict[str, list[TaughtRow]] = {}
    for backward in update.backwards:
        for forward in backward.forwards:
            for key, row in _taught(forward, backward.scale):
                found.setdefault(key, []).append(row)
    return found


def _taught(forward: ForwardPass, scale: float) -> list[tuple[str, TaughtRow]]:
    keys, logits, gradient = row_keys(forward), forward.logits, forward.logits_gradient
    if logits is None or gradient is None or logits.dim() < 2 or len(keys) != len(logits):
        return []
    rows = []
    for key, row, slope in zip(keys, logits, gradient, strict=True):
        row, slope = (row[None], slope[None]) if row.dim() == 1 else (row, slope)
        taught = slope.abs().amax(dim=-1) > 0
        if bool(taught.any()):
            rows.append((key, TaughtRow(row[taught], slope[taught] / scale)))
    return rows
