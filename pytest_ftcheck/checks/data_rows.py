"""Checks of the rows themselves: that what reaches the model is what the data hold, with what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..building import rows_of
from ..errors import NotApplicable
from ..evidence.chance import ONCE_IN, at_least_of
from ..evidence.stream import MOST_ROWS, batches, content_of_row, evenly, tokens_of_row, train_rows
from ..evidence.supervision import supervision
from .check import Finding, check
from .sabotages.data import BEGUN_TWICE, EVAL_LEAK, LABELS_MIXED_UP, SHRINKING_ROWS

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.stream import Batch, Content

IGNORED = -100


@check(
    "no-train-eval-overlap",
    "data",
    "no row of eval_data is in train_data, or is trained on",
    controls=[EVAL_LEAK],
)
def no_train_eval_overlap(evidence: Evidence) -> Iterator[Finding]:
    evals = rows_of(evidence.recipe, "eval_data")
    if evals is None:
        raise NotApplicable("the recipe has no eval_data")
    train, held_out = _contents(rows_of(evidence.recipe, "train_data")), _contents(evals)
    distinct = set(train)
    shared = [content for content in held_out if content in distinct]
    # Short rows meet by chance: as often as a row of train_data meets another one. That none did in n rows says (with
    # 95 %) that fewer than 3 in n do.
    chance = min(1.0, (len(train) - len(distinct) + 3) / len(train))
    if shared and at_least_of(len(shared), len(held_out), chance) * ONCE_IN <= 1:
        yield Finding(
            summary=f"{len(shared)} of {len(held_out)} rows of eval_data are also in train_data",
            evidence=(f"rows alike within train_data: {len(train) - len(distinct)} of {len(train)}",),
            cause="the split was made after rows were repeated or augmented, or evaluation rows were added to training",
            remedy="split by source before anything is copied, and leave out of train_data what eval_data holds",
        )
        return
    yield from _trained_on(evidence, set(held_out) - distinct)


def _contents(rows: Any) -> list[Content]:
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        raise NotApplicable("the data are no list of rows")
    return [content_of_row(rows[i]) for i in evenly(len(rows), MOST_ROWS)]


def _trained_on(evidence: Evidence, held_out: set[Content]) -> Iterator[Finding]:
    """Rows that only eval_data has, and that the loop trained on all the same."""
    seen = [content for batch in batches(evidence.trace) for content in batch.rows]
    leaked = sum(content in held_out for content in seen)
    if leaked > 1:
        yield Finding(
            summary=f"{leaked} of {len(seen)} rows that were trained on are rows of eval_data, and none of train_data",
            cause="the training loop reads the evaluation data too (both splits joined, or the wrong one passed)",
            remedy="give the training loader train_data alone",
        )


@check(
    "rows-stay-as-they-are",
    "data",
    "a row reaches the model with the same tokens in every epoch",
    controls=[SHRINKING_ROWS],
    catches=["https://github.com/huggingface/transformers/pull/27333"],
)
def rows_stay_as_they_are(evidence: Evidence) -> Iterator[Finding]:
    data = evidence.standard.job.train_data
    if not hasattr(data, "__len__"):
        raise NotApplicable("the data are no list of rows")
    seen = [content for batch in batches(evidence.trace) for content in batch.rows]
    first, later = set(seen[: len(data)]), seen[len(data) :]
    if not later:
        raise NotApplicable("the training saw no second epoch")
    changed = [content for content in later if content not in first and _one_end_differs(content, first)]
    # Rows drawn at random include some that are the beginning of others; a collator that changes rows changes most.
    if 2 * len(changed) > len(later):
        longer = sum(any(_begins_or_ends(one, content) for one in first) for content in changed)
        yield Finding(
            summary=f"{len(changed)} of {len(later)} rows reached the model {'longer' if longer else 'shorter'} in a "
            "later epoch than in the first",
            cause="the collator or the data set changes its rows in place (appends the end of sequence, pads labels, "
            "cuts): at each reading a row changes once more",
            remedy="copy what you change: ids = list(row['input_ids']) + [eos], never row['input_ids'].append(eos)",
        )


def _one_end_differs(content: Content, others: set[Content]) -> bool:
    """Whether ``content`` is one of ``others`` with tokens added or lost at one end."""
    return any(_begins_or_ends(one, content) or _begins_or_ends(content, one) for one in others)


def _begins_or_ends(short: Content, long: Content) -> bool:
    """Whether ``long`` is ``short`` with more tokens at one end."""
    size = len(short)
    return 2 <= size < len(long) and (long[:size] == short or long[-size:] == short)


@check(
    "rows-begin-once",
    "data",
    "no row begins with two beginning-of-sequence tokens",
    controls=[BEGUN_TWICE],
    catches=["https://github.com/huggingface/trl/issues/1400"],
)
def rows_begin_once(evidence: Evidence) -> Iterator[Finding]:
    config = getattr(evidence.trace.model, "config", None)
    token = getattr(config, "bos_token_id", None)
    if token is None or token == getattr(config, "pad_token_id", None):
        raise NotApplicable("the model's configuration names no token that begins a row and nothing else")
    rows = [content for batch in batches(evidence.trace) for content in batch.rows]
    twice = sum(len(row) > 2 and row[0] == token and row[1] == token for row in rows)
    # A row may quote the token; when all do, the tokenizer put it there.
    if len(rows) > 1 and twice == len(rows):
        yield Finding(
            summary=f"{twice} of {len(rows)} rows begin with the beginning-of-sequence token ({token}) twice",
            cause="a chat template writes the token into the text, and the tokenizer adds it again",
            remedy="tokenize what a template has rendered with add_special_tokens=False (or apply_chat_template with "
            "tokenize=True)",
        )


@check(
    "labels-belong-to-their-rows",
    "data",
    "each row is taught the labels that the data hold for it",
    controls=[LABELS_MIXED_UP],
)
def labels_belong_to_their_rows(evidence: Evidence) -> Iterator[Finding]:
    known = train_rows(evidence)
    labels = [_labels_of(row) for row in known.rows]
    others = {label for label in labels if label}
    told, wrong = 0, 0
    for batch in batches(evidence.trace):
        for content, taught in zip(batch.rows, _taught(batch), strict=False):
            number = known.number_of(content)
            if number is None or not labels[number] or not taught:
                continue
            told += 1
            wrong += not _agree(taught, labels[number]) and any(taught in (label, label[1:]) for label in others)
    if not told:
        raise NotApplicable("no row with labels of its own in train_data was seen to be taught tokens or a class")
    # One class for another needs several rows: classes are few, and a loss may be computed on changed ones.
    if wrong > 1 and 10 * wrong > told:
        yield Finding(
            summary=f"{wrong} of {told} rows were taught the labels of another row",
            cause="inputs and labels are put in order or shuffled apart from each other, or shifted by one row",
            remedy="keep a row's inputs and labels in one record until the batch is made, and permute both together",
        )


def _labels_of(row: Any) -> Content:
    """The labels of a row that count; where it has none, its own tokens."""
    held = next((row[key] for key in ("labels", "label") if key in row), None) if hasattr(row, "keys") else None
    if held is None:
        return tokens_of_row(row) or ()
    held = held.tolist() if hasattr(held, "tolist") else held
    if isinstance(held, bool) or not isinstance(held, (int, list, tuple)):
        return ()
    values = [held] if isinstance(held, int) else held
    return tuple(value for value in values if value != IGNORED)


def _taught(batch: Batch) -> Sequence[Content]:
    """The targets of each row of a batch, in their order; empty where its loss is no cross-entropy."""
    seen = supervision(batch.forward)
    if seen is None or not seen.is_cross_entropy or len(seen.targets) != len(batch.rows):
        return ()
    targets = seen.targets.reshape(len(seen.targets), -1)
    return [tuple(row[row >= 0].tolist()) for row in targets]


def _agree(taught: Content, labels: Content) -> bool:
    """Whether one is a stretch of the other: a collator may mask, or a shift leave out the first."""
    return _within(taught, labels) or _within(labels, taught) or (len(labels) > 1 and _within(labels[1:], taught))


def _within(short: Content, long: Content) -> bool:
    size = len(short)
    return any(long[start : start + size] == short for start in range(len(long) - size + 1))
