"""Breaking the data on their way to the model: order, repeats, rows and what belongs to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...building import rows_of
from ...errors import NotApplicable
from ..check import Sabotage
from .targets import with_targets
from .wrapping import around_training, forward_inputs, patched

if TYPE_CHECKING:
    from ...recipe import Job, Recipe


def _with_permutations(change: Callable[[dict[int, Any], Any], Any]) -> Callable[[Recipe], Recipe]:
    """Every permutation that training draws goes through ``change(those before, by length; permutation)``."""

    @contextlib.contextmanager
    def permuting(job: Job) -> Iterator[None]:
        import torch

        original, before = torch.randperm, dict[int, Any]()

        def randperm(count: int, *args: Any, **kwargs: Any) -> Any:
            return change(before, original(count, *args, **kwargs))

        with patched(torch, "randperm", randperm):
            yield

    return lambda recipe: around_training(recipe, permuting)


def _first_drawn(before: dict[int, Any], order: Any) -> Any:
    return before.setdefault(len(order), order).clone()


def _one_row_for_another(before: dict[int, Any], order: Any) -> Any:
    # In the middle, since a loop may leave out the end.
    order[len(order) // 2] = order[0]
    return order


def _with_loader(change: Callable[[Callable[[Any], Any], Any], Any]) -> Callable[[Recipe], Recipe]:
    """Each batch of a DataLoader is ``change(next, iterator)`` while training runs."""

    @contextlib.contextmanager
    def changing(job: Job) -> Iterator[None]:
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        original = _BaseDataLoaderIter.__next__
        with patched(_BaseDataLoaderIter, "__next__", lambda this: change(original, this)):
            yield

    return lambda recipe: around_training(recipe, changing)


def _is_trainer(recipe: Recipe) -> bool:
    from ...trainer import TrainerLoop

    return isinstance(getattr(recipe.train, "__self__", None), TrainerLoop)


def _repeat_batches(recipe: Recipe) -> Recipe:
    """Every batch twice: by the recipe's ``collate``, by a Trainer's loader, or by reading its rows again."""
    if recipe.collate is not None or recipe.train is None:
        return recipe.replace(collate=_every_other_call(recipe.collate))
    if not _is_trainer(recipe):
        return _with_rows(recipe, lambda rows: ReadAgain(rows, recipe.batch_size))
    held: dict[int, Any] = {}

    def next_or_again(original: Callable[[Any], Any], this: Any) -> Any:
        return held.pop(id(this)) if id(this) in held else held.setdefault(id(this), original(this))

    return _with_loader(next_or_again)(recipe)


def _every_other_call(inner: Callable[[list[Any]], Any] | None) -> Callable[[list[Any]], Any]:
    from ...training import collate as default

    held: list[Any] = []

    def collate(rows: list[Any]) -> Any:
        if held:
            return held.pop()
        held.append((inner or default)(rows))
        return held[0]

    return collate


def _with_rows(recipe: Recipe, change: Callable[[Any], Any]) -> Recipe:
    """``recipe`` whose training data are what ``change`` makes of them."""
    _listed(rows_of(recipe, "train_data"))
    return recipe.replace(train_data=lambda: change(rows_of(recipe, "train_data")))


def _leak(recipe: Recipe) -> Recipe:
    if recipe.eval_data is None:
        raise NotApplicable("the recipe has no eval_data")
    return _with_rows(recipe, lambda rows: [*_listed(rows_of(recipe, "eval_data")), *_listed(rows)])


def _listed(rows: Any) -> list[Any]:
    if not hasattr(rows, "__len__"):
        raise NotApplicable("the data are no list of rows")
    return [rows[i] for i in range(len(rows))]


class ReadAgain(Sequence[Any]):
    """Rows that are read in groups of ``size``, and each group a second time in place of the one after it."""

    def __init__(self, rows: Any, size: int) -> None:
        self._rows, self._size = _listed(rows), size
        self._read: list[Any] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        again = (len(self._read) // self._size) % 2
        self._read.append(self._read[-self._size] if again else self._rows[index])
        return self._read[-1]


class ReadRows(Sequence[Any]):
    """Rows that are what ``change(row, times read before)`` makes of them."""

    def __init__(self, rows: Any, change: Callable[[Any, int], Any]) -> None:
        self._rows, self._change = _listed(rows), change
        self._read = [0] * len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        self._read[index] += 1
        return self._change(self._rows[index], self._read[index] - 1)


def _every_column(row: Any, change: Callable[[Any], Any]) -> Any:
    """The row with ``change`` on every column that is as long as its tokens."""
    if not hasattr(row, "get") or "input_ids" not in row:
        raise NotApplicable("the rows hold no input_ids")
    length = len(row["input_ids"])
    return {k: change(v) if hasattr(v, "__len__") and len(v) == length else v for k, v in row.items()}


def _shrinking(row: Any, times: int) -> Any:
    return _every_column(row, lambda column: column[: max(3, len(column) - times)])


def _shrink(recipe: Recipe) -> Recipe:
    _shrinking(rows_of(recipe, "train_data")[0], 0)
    return _with_rows(recipe, lambda rows: ReadRows(rows, _shrinking))


def _doubled(recipe: Recipe) -> Recipe:
    """Twice as many rows in a batch, where the loop takes its size from the job and the data are enough for both."""

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        job.batch_size *= 2
        try:
            yield
        finally:
            job.batch_size //= 2

    return around_training(recipe, context)


def _begun_twice(recipe: Recipe) -> Recipe:
    token = getattr(getattr(recipe.model(), "config", None), "bos_token_id", None)
    if token is None:
        raise NotApplicable("the model's configuration names no token that begins a row")

    _every_column(rows_of(recipe, "train_data")[0], lambda column: column)

    def change(row: Any, _: int) -> Any:
        return {**_every_column(row, lambda column: column), "input_ids": _begun(row["input_ids"], token)}

    return _with_rows(recipe, lambda rows: ReadRows(rows, change))


def _begun(ids: Any, token: int) -> Any:
    changed = ids.clone() if hasattr(ids, "clone") else list(ids)
    changed[0], changed[1] = token, token
    return changed


def _with_inputs(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Recipe], Recipe]:
    return lambda recipe: around_training(recipe, lambda job: forward_inputs(job, change))


def _labels_of_the_next_row(batch: Any) -> Any:
    labels = batch.get("labels") if hasattr(batch, "get") else None
    return batch if labels is None else {**batch, "labels": labels.roll(1, dims=0)}


def _mix_up_labels(recipe: Recipe) -> Recipe:
    """In the loss where it predicts the next token, or else in the model's inputs."""
    row = rows_of(recipe, "train_data")[0]
    try:
        return with_targets(recipe, lambda targets: targets.labels.roll(1, dims=0))
    except NotApplicable:
        if not (hasattr(row, "get") and "labels" in row):
            raise
    return _with_inputs(_labels_of_the_next_row)(recipe)


def _beginning_hidden(inputs: dict[str, Any]) -> dict[str, Any]:
    mask = inputs.get("attention_mask")
    if mask is None or mask.dim() != 2:
        return inputs
    hidden = mask.clone()
    hidden[:, : mask.shape[1] // 2] = 0
    return {**inputs, "attention_mask": hidden}


SAME_ORDER = Sabotage(
    "same-order-each-epoch", "every epoch goes through the rows in one shuffled order", _with_permutations(_first_drawn)
)
ROW_REPEATED = Sabotage(
    "row-repeated", "every epoch takes one row twice and leaves one out", _with_permutations(_one_row_for_another)
)
BATCHES_REPEATED = Sabotage("batches-repeated", "every batch is trained on twice in a row", _repeat_batches)
EVAL_LEAK = Sabotage("evaluation-rows-trained-on", "the training data begin with the evaluation data", _leak)
SHRINKING_ROWS = Sabotage(
    "rows-shrink",
    "a row loses its last token each time that it is read",
    _shrink,
)
BEGUN_TWICE = Sabotage("begun-twice", "every row begins with two beginning-of-sequence tokens", _begun_twice)
LABELS_MIXED_UP = Sabotage("labels-mixed-up", "each row has the next row's labels", _mix_up_labels)
TOKENS_HIDDEN = Sabotage(
    "tokens-hidden", "the first half of every row is masked as padding", _with_inputs(_beginning_hidden)
)
BATCHES_DOUBLED = Sabotage("batches-doubled", "a micro-batch has twice the declared rows", _doubled)
