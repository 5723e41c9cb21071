"""Checks that several processes divide the rows of an epoch among them, in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.ranks import several_updates_an_epoch
from .check import Finding, check
from .sabotages.distributed import SAME_ROWS_ON_EVERY_RANK, WITHOUT_SET_EPOCH

if TYPE_CHECKING:
    from ..distributed.record import Ranks
    from ..evidence.evidence import Evidence


@check(
    "each-row-on-one-rank",
    "distributed",
    "in an epoch each row is seen once, by one rank",
    controls=[SAME_ROWS_ON_EVERY_RANK],
    needs=["processes"],
    cost="training",
)
def each_row_on_one_rank(evidence: Evidence) -> Iterator[Finding]:
    made = several_updates_an_epoch(evidence)
    ranks, one, epoch = made.several, made.one, made.epoch
    expected = one.rows(0, epoch)
    if not expected or expected != one.rows(epoch, 2 * epoch):
        raise NotApplicable("one process does not see every row once an epoch (packing, or a stream)")
    found = ranks.rows(0, epoch)
    if found == expected:
        return
    shared = set.intersection(*(_own_rows(ranks, rank, epoch) for rank in range(len(ranks.records))))
    missing = expected - found
    yield Finding(
        summary=f"{sum((found - expected).values())} of {sum(expected.values())} rows are seen too often in the first"
        f" epoch, and {sum(missing.values())} by no rank",
        cause="every rank draws its batches from all rows: no DistributedSampler, or one that was given the same rank"
        if shared
        else "the rows are divided unevenly: some are dropped, or repeated to fill up batches",
        remedy="DistributedSampler(rows, num_replicas=WORLD_SIZE, rank=RANK), or accelerator.prepare(loader)",
        evidence=(f"{len(shared)} different rows are seen by all {len(ranks.records)} ranks",),
    )


@check(
    "epochs-are-shuffled-anew",
    "distributed",
    "a loop that shuffles gives every epoch an order of its own",
    controls=[WITHOUT_SET_EPOCH],
    catches=["https://pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler"],
    needs=["processes"],
    cost="training",
)
def epochs_are_shuffled_anew(evidence: Evidence) -> Iterator[Finding]:
    made = several_updates_an_epoch(evidence)
    orders = [_orders(made.several, rank, made.epoch) for rank in range(len(made.several.records))]
    if not all(len(order) > 1 for order in orders):
        raise NotApplicable("the ranks see no whole epochs of rows")
    again = all(order[0] == other for order in orders for other in order[1:])
    samplers = [epochs for record in made.several.records for epochs in record.epochs]
    if not again or not (any(map(_repeats, samplers)) or len(set(_orders(made.one, 0, made.epoch))) > 1):
        return
    yield Finding(
        summary=f"all {len(orders[0])} epochs have the same order of rows on every rank",
        cause="DistributedSampler shuffles by its seed and its epoch, and set_epoch(epoch) is not called",
        remedy="sampler.set_epoch(epoch) before each epoch's iteration",
    )


def _repeats(epochs: Sequence[int]) -> bool:
    return len(set(epochs)) < len(epochs)


def _own_rows(ranks: Ranks, rank: int, epoch: int) -> set[str]:
    return {key for update in ranks.records[rank].updates[:epoch] for key in update.rows}


def _orders(ranks: Ranks, rank: int, epoch: int) -> list[tuple[str, ...]]:
    """The rows of each epoch of a rank, in their order."""
    updates = ranks.records[rank].updates
    starts = range(0, len(updates) - epoch + 1, epoch)
    orders = [tuple(key for update in updates[i : i + epoch] for key in update.rows) for i in starts]
    return orders if all(orders) else []
