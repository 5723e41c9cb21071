"""The check of how many rows a micro-batch has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.lessons import lessons
from ..evidence.scripts import refuse_undeclared
from ..evidence.sequences import document_starts
from ..evidence.stream import batches
from .check import Finding, check
from .sabotages.data import BATCHES_DOUBLED

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.stream import Batch

# Of all micro-batches so many have one size, where the size is a setting; the last of an epoch has fewer rows.
MOST = 0.6


@check(
    "batch-size-as-declared",
    "optimizer",
    "a micro-batch has as many rows as the recipe declares; only an epoch's last may have fewer",
    controls=[BATCHES_DOUBLED],
)
def batch_size_as_declared(evidence: Evidence) -> Iterator[Finding]:
    refuse_undeclared(evidence, "batch_size")
    declared, accumulation = evidence.recipe.batch_size, evidence.recipe.accumulation
    if not all(one.seen.is_cross_entropy for one in lessons(evidence)):
        raise NotApplicable("the loss may be of pairs or groups of rows, which no row of the data shows")
    seen = batches(evidence.trace)
    if any(_is_packed(batch) for batch in seen):
        raise NotApplicable("rows are packed")
    sizes = Counter(len(set(batch.rows)) for batch in seen)
    usual, rows = max(sizes), evidence.standard.job.train_data
    count = len(rows) if hasattr(rows, "__len__") else 0
    # Where others are not what an epoch leaves over, batches are made by length, or at random.
    settled = sizes.keys() <= {usual, count % usual} or sizes[usual] >= MOST * len(seen)
    # A loop may take what is declared for an update's rows, and split them; or all rows there are.
    if usual == declared or not settled or usual * accumulation == declared or usual >= count > 0:
        return
    yield Finding(
        summary=f"{sizes[usual]} of {len(seen)} micro-batches have {usual} rows; the recipe declares {declared}",
        cause="the loop has a batch size of its own (a loader's or trainer's default, a constant)",
        remedy="give the loader job.batch_size (Trainer: per_device_train_batch_size), or declare what is meant",
    )


def _is_packed(batch: Batch) -> bool:
    import torch

    ids, positions = batch.forward.input_ids, batch.forward.inputs.get("position_ids")
    return ids is not None and any(document_starts(positions, torch.ones_like(ids, dtype=torch.bool)))
