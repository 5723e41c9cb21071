"""Checks that several processes train as one: the gradient of the rows of all, on every rank, and each row once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import NotApplicable, TrainingError
from ..evidence.ranks import one_update_an_epoch, several_updates_an_epoch
from ..evidence.windows import dot, norm
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.distributed import (
    ADAPTER_OUTSIDE,
    BUFFERS_DRIFT,
    DIVIDED_TWICE,
    MEAN_OF_RANK_MEANS,
    MOVED_AFTER_WRAPPING,
    OPTIMIZER_BEFORE_WRAPPING,
    SAME_ROWS_ON_EVERY_RANK,
    UNSYNCHRONISED,
    UNUSED_PARAMETER,
    WITHOUT_SET_EPOCH,
)

if TYPE_CHECKING:
    from ..distributed.record import Ranks
    from ..evidence.evidence import Evidence
    from ..evidence.ranks import Processes
    from ..observers.update import Tensors

# Adam's first steps turn the rounding of gradients near zero into whole learning rates, so weights may differ by this
# share of the way that they went, where the gradients are the same. Measured: at most 0.011.
SAME_WAY = 0.1
UNUSED = re.compile(r"finished reduction in the prior iteration|find_unused_parameters")


@check(
    "no-unused-parameter-stops-a-rank",
    "distributed",
    "DistributedDataParallel waits for no trainable parameter that an update does not use",
    controls=[UNUSED_PARAMETER],
    catches=["https://github.com/huggingface/peft/issues/899"],
    needs=["processes"],
    cost="training",
)
def no_unused_parameter_stops_a_rank(evidence: Evidence) -> Iterator[Finding]:
    try:
        one_update_an_epoch(evidence)
    except TrainingError as error:
        if not UNUSED.search(str(error)):
            raise
        first = evidence.trace.updates[0]
        unused = sorted(first.trainable - first.gradients.keys())
        yield Finding(
            summary=f"{len(unused)} trainable parameters get no gradient, and the next update raises: "
            f"{first_few(unused)}",
            cause="a head, an adapter or a frozen branch that requires gradients and that the loss does not reach",
            remedy="freeze what is not used (requires_grad_(False)) before wrapping; find_unused_parameters=True hides"
            " it and walks the graph in every update",
        )


@check(
    "gradients-are-synchronised",
    "distributed",
    "the optimizer of every rank is given the same gradients, the adapter's too",
    controls=[UNSYNCHRONISED],
    needs=["processes"],
    cost="training",
)
def gradients_are_synchronised(evidence: Evidence) -> Iterator[Finding]:
    found = _apart(one_update_an_epoch(evidence).several, "gradients")
    if found is None:
        return
    update, names, total = found
    yield Finding(
        summary=f"{len(names)} of {total} gradients differ between the ranks in update {update}: {first_few(names)}",
        cause="these parameters are not in the wrapper (an adapter that was put on after wrapping), the wrapper is"
        " called around (ddp.module(...)), or no_sync() lasts for the last micro-batch",
        remedy="adapt first, wrap then, call the wrapper itself, and leave no_sync() before the update's last backward",
    )


@check(
    "ranks-stay-identical",
    "distributed",
    "every rank begins with the same parameters and has the same after every update, and the same buffers",
    controls=[BUFFERS_DRIFT],
    needs=["processes"],
    cost="training",
)
def ranks_stay_identical(evidence: Evidence) -> Iterator[Finding]:
    ranks = one_update_an_epoch(evidence).several
    starts = [record.replicated(record.start) for record in ranks.records]
    names = _differing(starts)
    if names:
        yield Finding(
            summary=f"{len(names)} of {len(starts[0])} parameters differ between the ranks before the first update: "
            f"{first_few(names)}",
            cause="every rank draws its own initial values, and the wrapper did not make them equal",
            remedy="draw them from one seed on every rank, or wrap after everything is built: wrapping sends rank 0's",
        )
    found = _apart(ranks, "parameters")
    if found is not None and not names:
        update, names, total = found
        yield Finding(
            summary=f"{len(names)} of {total} parameters differ between the ranks after update {update}: "
            f"{first_few(names)}",
            cause="gradients that are not synchronised, or an optimizer that differs between the ranks",
            remedy="see gradients-are-synchronised; give every rank's optimizer the same settings",
        )
    drift = _apart(ranks, "buffers")
    if drift is not None:
        update, names, total = drift
        yield Finding(
            summary=f"{len(names)} of {total} buffers differ between the ranks when update {update} begins: "
            f"{first_few(names)}",
            cause="running statistics of each rank's own rows: broadcast_buffers=False, or a wrapper (FSDP2) that"
            " leaves buffers alone",
            remedy="broadcast_buffers=True, SyncBatchNorm, or no running statistics",
        )


@check(
    "several-processes-equal-one",
    "distributed",
    "the processes make the update, with the loss, that one process makes of all their rows, however uneven the labels",
    controls=[MEAN_OF_RANK_MEANS, DIVIDED_TWICE],
    catches=["https://github.com/huggingface/transformers/pull/34191"],
    needs=["processes"],
    cost="training",
)
def several_processes_equal_one(evidence: Evidence) -> Iterator[Finding]:
    made = one_update_an_epoch(evidence)
    if _apart(made.several, "gradients") is not None:
        raise NotApplicable("the ranks' gradients differ, which another check says")
    if _rows_of(made.several, 0, 1) != _rows_of(made.one, 0, 1):
        raise NotApplicable("the processes see other rows than one process does, which another check says")
    near = max(record.near for record in (*made.several.records, *made.one.records))
    expected, found = made.one.named("gradient/"), made.several.named("gradient/")
    if not norm(expected) > 0:
        raise NotApplicable("the gradient of the first update is zero or was not seen")
    distance = _distance(expected, found)
    if not distance <= near:
        yield _other_gradient(made, expected, found, distance, near)
        return
    losses = [record.updates[0].loss for record in made.several.records]
    one = made.one.records[0].updates[0].loss
    if not any(abs(value - one) <= near * abs(one) for value in (sum(losses) / len(losses), sum(losses))):
        yield Finding(
            summary=f"the loss of the first update is {sum(losses) / len(losses):.6g}, the ranks' mean, instead of "
            f"{one:.6g}, that of one process; the gradient is the same",
            cause="the ranks divide the loss by other numbers than what makes up for it in the gradient",
            remedy="divide each rank's loss by the tokens of all ranks, times the number of processes",
        )
    apart = _way_apart(made)
    if not apart <= SAME_WAY:
        yield Finding(
            summary=f"after {len(made.one.records[0].updates)} updates the weights are {apart:.3g} of their way from "
            f"those of one process (at most {SAME_WAY:g}); the first gradient is the same",
            cause="the optimizer steps differ: clipping by each rank's own norm, state of each shard, or a schedule"
            " that counts processes",
            remedy="clip by the norm of all shards (torch.nn.utils.clip_grad_norm_ on the model's own parameters), step"
            " the schedule once an update",
        )


def _other_gradient(made: Processes, expected: Tensors, found: Tensors, distance: float, near: float) -> Finding:
    count = len(made.several.records)
    factor = dot(found, expected) / dot(expected, expected)
    tokens = [record.updates[0].tokens for record in made.several.records]
    labels = f"labels that count, by rank: {', '.join(map(str, tokens))}"
    if factor > 0 and _distance({n: factor * t for n, t in expected.items()}, found) <= near:
        too_small = factor < 1
        return Finding(
            summary=f"the gradient of {count} processes is {factor:.4g} times that of one process on the same rows",
            cause="the gradient is divided by the number of processes twice: the wrapper takes the mean already"
            if too_small
            else "the gradients of the ranks are added up, or the loss is multiplied by the number of processes",
            remedy="divide once: the wrapper takes the mean of the ranks, so give it a loss per token of all ranks,"
            " times the number of processes",
            evidence=(labels,),
        )
    return Finding(
        summary=f"the gradient of {count} processes differs by {distance:.3g} of its norm from that of one process on"
        f" the same rows (at most {near:g})",
        cause="each rank takes the mean over its own labels, and the mean of those is not the mean over all of them",
        remedy="divide by the labels of all ranks (all_reduce the count), times the number of processes; in a Trainer:"
        " average_tokens_across_devices=True",
        evidence=(labels, f"it is {factor:.4g} times as long in that direction"),
    )


def _way_apart(made: Processes) -> float:
    """How far the weights end from those of one process, relative to how far those went."""
    begin, one, several = made.one.named("start/"), made.one.named("final/"), made.several.named("final/")
    common = begin.keys() & one.keys() & several.keys()
    went = norm({name: one[name].double() - begin[name].double() for name in common})
    return norm({name: one[name].double() - several[name].double() for name in common}) / went if went > 0 else 0.0


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
    expected = _rows_of(one, 0, epoch)
    if not expected or expected != _rows_of(one, epoch, 2 * epoch):
        raise NotApplicable("one process does not see every row once an epoch (packing, or a stream)")
    found = _rows_of(ranks, 0, epoch)
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


@check(
    "wrapped-as-it-trains",
    "distributed",
    "what is wrapped is what trains: nothing is added, moved or cast later, and the optimizer holds what was left",
    controls=[ADAPTER_OUTSIDE, MOVED_AFTER_WRAPPING, OPTIMIZER_BEFORE_WRAPPING],
    needs=["processes"],
    cost="training",
)
def wrapped_as_it_trains(evidence: Evidence) -> Iterator[Finding]:
    record = one_update_an_epoch(evidence).several.records[0]
    if record.outside:
        yield Finding(
            summary=f"{len(record.outside)} trainable parameters are not in the wrapper: {first_few(record.outside)}",
            cause="the adapter was put on, or the parameters were made trainable, after wrapping: they are never"
            " synchronised",
            remedy="adapt and freeze first, wrap then, and make the optimizer last",
        )
    if record.moved:
        yield Finding(
            summary=f"{len(record.moved)} trainable parameters have another dtype or device than when wrapped: "
            f"{first_few(record.moved)}",
            cause="the model was moved or cast after wrapping, whose buckets keep the old dtype and device",
            remedy="model.to(device, dtype) first, wrap then, and make the optimizer last",
        )
    if record.foreign:
        yield Finding(
            summary=f"{record.foreign} parameters of the optimizer are not the model's",
            cause="the optimizer was made before wrapping: sharding puts new parameters in place of those it holds",
            remedy="wrap first, and make the optimizer of the wrapped model's parameters",
        )


def _repeats(epochs: Sequence[int]) -> bool:
    return len(set(epochs)) < len(epochs)


def _apart(ranks: Ranks, kind: str) -> tuple[int, list[str], int] | None:
    """The first update (from 1) in which tensors that every rank has whole differ between the ranks; their names, and
    how many such tensors there are.
    """
    for number, updates in enumerate(zip(*(record.updates for record in ranks.records), strict=False), start=1):
        own = [r.replicated(getattr(u, kind)) for r, u in zip(ranks.records, updates, strict=True)]
        names = _differing(own)
        if names:
            return number, names, len(own[0])
    return None


def _differing(digests: Sequence[dict[str, str]]) -> list[str]:
    names = dict.fromkeys(name for one in digests for name in one)
    return [name for name in names if len({one.get(name) for one in digests}) > 1]


def _distance(expected: Tensors, found: Tensors) -> float:
    """|found − expected| relative to |expected|; absent tensors count as zero."""
    squares = dot(found, found) - 2 * dot(found, expected) + dot(expected, expected)
    return float((abs(squares) / dot(expected, expected)) ** 0.5)


def _rows_of(ranks: Ranks, begin: int, end: int) -> Counter[str]:
    """The rows that all ranks together saw from update ``begin`` (from 0) to before ``end``."""
    return Counter(key for record in ranks.records for update in record.updates[begin:end] for key in update.rows)


def _own_rows(ranks: Ranks, rank: int, epoch: int) -> set[str]:
    return {key for update in ranks.records[rank].updates[:epoch] for key in update.rows}


def _orders(ranks: Ranks, rank: int, epoch: int) -> list[tuple[str, ...]]:
    """The rows of each epoch of a rank, in their order."""
    updates = ranks.records[rank].updates
    starts = range(0, len(updates) - epoch + 1, epoch)
    orders = [tuple(key for update in updates[i : i + epoch] for key in update.rows) for i in starts]
    return orders if all(orders) else []
