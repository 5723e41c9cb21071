"""Checks that a training repeats itself: from the same seed, and whether or not it is evaluated in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rows import row_keys
from .check import Finding, check
from .sabotages.repetition import EVALUATION_MOVES_ROWS, ORDER_BY_CHANCE

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace
    from ..observers.update import Update

# Of the repeated training: enough for an epoch of the audit's rows.
REPEATED_STEPS = 3
# Two evaluations an epoch, of which one is in its middle.
EVALUATED_EVERY = 2
# The loss of the first update is the same to the bit on one thread, and to a few roundings on several.
SAME_LOSS = 1e-5


@check(
    "evaluation-leaves-row-order-alone",
    "equivalence",
    "evaluating during the training changes neither the order of the rows nor when updates are made",
    controls=[EVALUATION_MOVES_ROWS],
    catches=[
        "https://github.com/huggingface/transformers/pull/17055",
        "https://github.com/huggingface/accelerate/pull/1483",
    ],
    cost="training",
)
def evaluation_leaves_row_order_alone(evidence: Evidence) -> Iterator[Finding]:
    if evidence.recipe.eval_data is None:
        raise NotApplicable("the recipe has no eval_data")
    plain, evaluated = evidence.trace, evidence.varied(eval_steps=EVALUATED_EVERY).trace
    if len(evaluated.evaluations) <= len(plain.evaluations):
        raise NotApplicable("the loop does not evaluate every job.eval_steps updates")
    sizes = [[len(update.backwards) for update in trace.updates] for trace in (plain, evaluated)]
    first = next((updates for updates, _, _ in evaluated.evaluations if updates), 0)
    if sizes[0] != sizes[1]:
        yield _other_updates(sizes[0], sizes[1], first)
        return
    moved = _first_difference(plain, evaluated)
    if moved is not None:
        yield Finding(
            summary=f"other rows from update {moved + 1} on when an evaluation is made after update {first}",
            cause="the evaluation draws from the generator that shuffles the training rows, or uses up their iterator",
            remedy="give the training loader's sampler a generator of its own (a seedable sampler), or evaluate under "
            "torch.random.fork_rng()",
        )


@check(
    "same-seed-same-training",
    "equivalence",
    "a second training from the same seed sees the same rows in the same order and starts at the same loss",
    controls=[ORDER_BY_CHANCE],
    catches=["https://github.com/huggingface/trl/pull/4887"],
    cost="training",
)
def same_seed_same_training(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.device.startswith("cpu"):
        raise NotApplicable("kernels of an accelerator need not repeat themselves to the bit")
    first, second = evidence.trace, evidence.varied(steps=REPEATED_STEPS).trace
    moved = _first_difference(first, second)
    if moved is not None:
        yield Finding(
            summary=f"other rows in update {moved + 1} of a second training from the same seed",
            cause="the rows are shuffled or drawn by a generator that nothing seeds, or one that goes on where the "
            "training before left it",
            remedy="seed every generator at the start of the training: random, numpy, torch, and those of loaders",
        )
        return
    losses = [trace.updates[0].loss for trace in (first, second)]
    if not abs(losses[0] - losses[1]) <= SAME_LOSS * abs(losses[0]):
        yield Finding(
            summary=f"a loss of {losses[1]:.6g} instead of {losses[0]:.6g} in update 1 of a second training from the "
            "same seed, on the same rows",
            cause="initial weights, dropout or noise are drawn from a generator that nothing seeds, or something "
            "outlives the training and changes the next",
            remedy="seed before the model is built and adapted, and again before the training begins",
        )


def _first_difference(one: Trace, other: Trace) -> int | None:
    """The first update that both made and that saw other rows, or the same in another order."""
    rows = [[_rows(update) for update in trace.updates] for trace in (one, other)]
    if not any(rows[0]):
        raise NotApplicable("the model's inputs show no rows")
    return next((i for i, (a, b) in enumerate(zip(*rows, strict=False)) if a != b), None)


def _rows(update: Update) -> list[str]:
    return [key for forward in update.forwards for key in row_keys(forward)]


def _other_updates(plain: list[int], evaluated: list[int], first: int) -> Finding:
    return Finding(
        summary=f"updates of {_listed(evaluated)} micro-batches when an evaluation is made after update {first}, and "
        f"of {_listed(plain)} without",
        cause="the evaluation's loader overwrites the state by which the loop counts the micro-batches of an update",
        remedy="keep one accumulation counter for the training rows; with accelerate, 0.20 or newer",
    )


def _listed(sizes: list[int], most: int = 8) -> str:
    return ", ".join(map(str, sizes[:most])) + (", ..." if len(sizes) > most else "")
