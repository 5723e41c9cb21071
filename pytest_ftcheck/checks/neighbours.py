"""Whether rows that share a batch see each other: what each is taught, and its logits there, in company and alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.windows import FLOAT32, taught_rows, tolerance
from .check import Finding, check
from .equivalence import FULL_WINDOWS, comparable, first_epoch, refuse_equal_batches
from .sabotages.equivalence import ROWS_MIX

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.windows import TaughtRow
    from ..observers.update import Update


@check(
    "rows-do-not-see-each-other",
    "equivalence",
    "what a row is taught, and its logits there, do not depend on the rows beside it in the batch",
    controls=[ROWS_MIX],
    catches=["https://github.com/unslothai/unsloth/pull/9848"],
    cost="training",
)
def rows_do_not_see_each_other(evidence: Evidence) -> Iterator[Finding]:
    if _batch_statistics(evidence):
        raise NotApplicable("the model normalizes over its batch, by design")
    window = max(evidence.recipe.batch_size * evidence.recipe.accumulation, 2)
    whole, alone = first_epoch(evidence, window, 1), first_epoch(evidence, 1, window)
    refuse_equal_batches(whole, alone)
    pairs = [(whole[i], alone[i]) for i in FULL_WINDOWS if comparable(whole, alone, i)]
    if not pairs:
        raise NotApplicable("with another batch size the first windows hold other rows")
    finding = next((f for f in (_neighbours(*pair) for pair in pairs) if f is not None), None)
    if finding is not None:
        yield finding


def _batch_statistics(evidence: Evidence) -> bool:
    from torch import nn

    kinds = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kinds) and module.training for module in evidence.trace.model.modules())


def _neighbours(whole: Update, split: Update) -> Finding | None:
    """The row whose logits, or number of taught positions, change most with its neighbours, if any does."""
    near = max(tolerance(whole), tolerance(split))
    worst, changed, seen = 0.0, 0, 0
    beside, alone = taught_rows(whole), taught_rows(split)
    for key in beside.keys() & alone.keys():
        for one, other in zip(beside[key], alone[key], strict=False):
            # In half precision the gradient of what is known well is rounded to zero, and not only that of no target.
            apart = _apart(one, other) if near == FLOAT32 or one.logits.shape == other.logits.shape else 0.0
            worst, changed, seen = max(worst, apart), changed + (not apart <= near), seen + 1
    if not seen:
        raise NotApplicable("the model's output shows no logits of its rows")
    if not changed:
        return None
    taught = [sum(len(row.logits) for rows in some.values() for row in rows) for some in (alone, beside)]
    told = (
        f"{taught[0]} positions are taught row by row, {taught[1]} in one batch"
        if taught[0] != taught[1]
        else f"logits by up to {worst:.2g} of their norm"
    )
    return Finding(
        summary=f"{changed} of {seen} rows change with the rows beside them: {told}",
        cause="padding is attended to or supervised (no attention mask, left padding without position ids), or "
        "something sums or averages over the rows of a batch",
        remedy="pass the attention mask, with position ids where padding is on the left, and ignore padding in the "
        "labels",
    )


def _apart(one: TaughtRow, other: TaughtRow) -> float:
    """The distance of a row's logits in two batches, relative to their norm; infinite where other positions count."""
    if one.logits.shape != other.logits.shape:
        return math.inf
    return float((one.logits - other.logits).norm() / one.logits.norm().clamp_min(1e-30))
