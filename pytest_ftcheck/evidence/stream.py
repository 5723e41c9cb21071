"""The rows of a training in the order in which they reached the model, and which rows of the data they are.

Rows are told by their content, so that it does not matter what brought them: a loop of the user's own, a DataLoader
with workers, a Trainer.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .rows import real_tokens

if TYPE_CHECKING:
    from ..observers.trace import Trace
    from ..observers.update import ForwardPass
    from .evidence import Evidence

Content = tuple[Any, ...]

# Rows that are looked at in a data set; more would cost a check seconds.
MOST_ROWS = 5000
# Of the rows that reached the model this share must be rows of the data for anything to be said of their order: what
# packs, crops or augments rows makes new ones.
KNOWN_SHARE = 0.9


@dataclass(frozen=True)
class Batch:
    """The rows of one forward pass. ``update`` and ``backward`` (within the update) say when, both from 0."""

    rows: tuple[Content, ...]
    update: int
    backward: int
    forward: ForwardPass


def batches(trace: Trace) -> list[Batch]:
    """The batches that the model was trained on. One that is passed several times before its backward pass (two
    dropout masks, a gradient cache) counts once.
    """
    found: list[Batch] = []
    for number, update in enumerate(trace.updates):
        for index, backward in enumerate(update.backwards):
            seen: set[tuple[Content, ...]] = set()
            for forward in backward.forwards:
                rows = tuple(contents(forward))
                if rows and rows not in seen:
                    seen.add(rows)
                    found.append(Batch(rows, number, index, forward))
    if not found:
        raise NotApplicable("no rows were seen in the inputs of the model")
    return found


def contents(forward: ForwardPass) -> list[Content]:
    """The content of each row of a forward pass, without padding where that can be told."""
    import torch

    ids = forward.input_ids
    if ids is not None:
        real = real_tokens(forward)
        return [tuple(row[keep].tolist()) for row, keep in zip(ids, real, strict=True)]
    tensors = [t for t in forward.inputs.values() if isinstance(t, torch.Tensor) and t.dim() > 0]
    return [tuple(row.reshape(-1).tolist()) for row in tensors[0]] if tensors else []


class Rows:
    """The rows of a data set by their content."""

    def __init__(self, rows: Any, collate: Any = None) -> None:
        if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
            raise NotApplicable("the data are no list of rows")
        self.rows = [rows[index] for index in evenly(len(rows), MOST_ROWS)]
        self._numbers: dict[Content, list[int]] = {}
        for number, row in enumerate(self.rows):
            for content in _contents_of_row(row, collate):
                self._numbers.setdefault(content, []).append(number)

    def __len__(self) -> int:
        return len(self.rows)

    def numbers_of(self, content: Content) -> list[int]:
        """The numbers of the rows with this content; several where rows are alike.

        Padding that no mask shows is found by leaving off what repeats at the ends.
        """
        return next((self._numbers[c] for c in _without_repeats_at_the_ends(content) if c in self._numbers), [])

    def number_of(self, content: Content) -> int | None:
        """The number of the one row with this content; None where there is none, or several."""
        numbers = self.numbers_of(content)
        return numbers[0] if len(numbers) == 1 else None


def evenly(count: int, most: int) -> Sequence[int]:
    """At most ``most`` of the numbers below ``count``, evenly spaced."""
    return range(count) if count <= most else [i * count // most for i in range(most)]


def tokens_of_row(row: Any) -> Content | None:
    """The token ids of a row of data as it is stored; None where it holds none (text, an image)."""
    held = row.get("input_ids") if hasattr(row, "get") else row
    ids = _numbers(held)
    mask = _numbers(row.get("attention_mask")) if hasattr(row, "get") else None
    if ids is not None and mask is not None and len(mask) == len(ids):
        return tuple(i for i, m in zip(ids, mask, strict=True) if m)
    return ids


def content_of_row(row: Any) -> Content:
    """The tokens of a row, or where it holds none all that it holds."""
    tokens = tokens_of_row(row)
    if tokens is not None:
        return tokens
    items = row.items() if hasattr(row, "items") else enumerate(row if isinstance(row, (list, tuple)) else [row])
    return tuple((str(key), repr(_numbers(value) or value)) for key, value in items)


def _contents_of_row(row: Any, collate: Any) -> Iterator[Content]:
    """What a row may look like when it reaches the model: as it is stored, and as a batch of its own."""
    tokens = tokens_of_row(row)
    found = {tokens} if tokens else set()
    if collate is not None:
        with contextlib.suppress(Exception):  # a user's collate need not take a single row
            batch = collate([copy.deepcopy(row)])
            ids = batch.get("input_ids") if hasattr(batch, "get") else batch
            mask = batch.get("attention_mask") if hasattr(batch, "get") else None
            alone = tokens_of_row({"input_ids": ids[0], "attention_mask": mask[0] if mask is not None else None})
            found |= {alone} if alone else set()
    yield from found


def _numbers(value: Any) -> Content | None:
    """A flat list, array or tensor of numbers as a tuple."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (int, float)) for item in value):
        return tuple(value)
    return None


def _without_repeats_at_the_ends(content: Content) -> Iterator[Content]:
    yield content
    for end, step in ((-1, -1), (0, 1)):
        kept = content
        while len(kept) > 1 and kept[end] == kept[end + step]:
            kept = kept[:-1] if end else kept[1:]
            yield kept
        if len(kept) > 1 and kept is not content:
            yield kept[:-1] if end else kept[1:]


@dataclass(frozen=True)
class Stream:
    """The numbers of the rows of the data in the order in which they were trained on.

    ``known`` are the rows of the data, ``window`` the rows of a whole update.
    """

    numbers: tuple[int, ...]
    known: Rows
    window: int

    @property
    def shortest_epoch(self) -> int:
        """The fewest rows of an epoch: a loop may leave out rows that do not make a whole update, or hold some back."""
        return max(1, min(len(self.known), len(set(self.numbers))) - self.window + 1)


def train_rows(evidence: Evidence) -> Rows:
    """The rows that the short trainings are given."""
    job = evidence.standard.job
    collate = job.collate if evidence.recipe.collate is not None else None
    return evidence.once("train rows", lambda: Rows(job.train_data, collate))


def stream(evidence: Evidence, trace: Trace | None = None) -> Stream:
    """The stream of rows of a training (default: the standard one). NotApplicable where they are no rows of it."""
    known, seen = train_rows(evidence), batches(trace or evidence.trace)
    turns: Counter[Content] = Counter()
    numbers, rows = [], 0
    for content in (content for batch in seen for content in batch.rows):
        rows += 1
        alike = known.numbers_of(content)
        if alike:
            # Rows that are alike take turns, so that none of them seems to come twice.
            numbers.append(alike[turns[content] % len(alike)])
            turns[content] += 1
    if not (len(numbers) >= KNOWN_SHARE * rows):
        raise NotApplicable(
            f"{rows - len(numbers)} of {rows} rows that reached the model are no rows of train_data (packed, cropped "
            "or tokenized on the way)"
        )
    job = evidence.standard.job
    return Stream(tuple(numbers), known, job.batch_size * job.accumulation)
