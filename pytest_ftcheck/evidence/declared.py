"""What the training data themselves say is to be learned: the rows' own tokens and labels or masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .lessons import IGNORED
from .sequences import sequences

if TYPE_CHECKING:
    from .evidence import Evidence
    from .sequences import Sequence

# Columns that hold one flag a token: whether it is to be learned.
MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask")
# Pairs of columns that hold the tokens of what is given and of what is to be learned.
PAIRS = (
    *(("prompt", "completion"), ("prompt_ids", "completion_ids"), ("prompt_input_ids", "completion_input_ids")),
    *(("question", "answer"), ("source", "target"), ("instruction", "response"), ("input", "output")),
)
# A short training sees a few dozen rows; what a loader adds (shuffling over everything) is bounded here.
MOST_ROWS = 512
# A beginning or an end of a row in common says nothing when it is shorter.
LEAST = 3


@dataclass(frozen=True)
class DeclaredRow:
    """The tokens of a row of the data, and for each whether it is to be learned (None: the row does not say)."""

    tokens: tuple[int, ...]
    learned: tuple[bool, ...] | None


@dataclass(frozen=True)
class Match:
    """A sequence of the training and the row that it is of: the sequence's first token is the row's at ``offset``,
    which is negative where something was put in front.
    """

    sequence: Sequence
    row: DeclaredRow
    offset: int

    @property
    def is_cut_at_end(self) -> bool:
        return self.offset + len(self.sequence.tokens) < len(self.row.tokens)

    def is_learned(self, place: int) -> bool | None:
        """Whether the row wants the sequence's token at ``place`` learned; None where it does not say."""
        at = place + self.offset
        if self.row.learned is None or not 0 <= at < len(self.row.learned):
            return None
        return self.row.learned[at]


def matches(evidence: Evidence) -> list[Match]:
    """The training's sequences that are recognised as (parts of) rows of the data, with their rows."""
    return evidence.once("matches", lambda: list(_matches(evidence)))


def _matches(evidence: Evidence) -> Iterator[Match]:
    taught = sequences(evidence)
    rows = declared_rows(evidence, taught.in_decoder)
    known = {row.tokens: row for row in reversed(rows)}
    for sequence in taught.sequences:
        tokens = tuple(sequence.tokens)
        found = (known[tokens], 0) if tokens in known else _part_of(tokens, rows)
        if found is not None:
            yield Match(sequence, *found)


def declared_rows(evidence: Evidence, of_decoder: bool = False) -> list[DeclaredRow]:
    """The rows of the data that hold tokens: those of the recipe, and as a trainer prepared them. ``of_decoder``: the
    labels of an encoder-decoder, which are its own sequences.
    """
    job = evidence.standard.job
    trainer = job.trainer
    sources = [trainer.train_dataset if trainer is not None else None, job.train_data]
    return [row for source in sources for row in rows_with_tokens(source, of_decoder)]


def rows_with_tokens(rows: Any, of_decoder: bool = False) -> list[DeclaredRow]:
    """Those of ``rows`` that hold tokens; none where they are texts, or cannot be read by index."""
    found = (_declared(row, of_decoder) for row in _first_rows(rows))
    return [row for row in found if row is not None and row.tokens]


def _first_rows(rows: Any) -> Iterable[Any]:
    if rows is None or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return
    try:
        for index in range(min(len(rows), MOST_ROWS)):
            yield rows[index]
    except Exception:
        # Somebody's data set, read out of its order: without it there is less to compare.
        return


def _declared(row: Any, of_decoder: bool) -> DeclaredRow | None:
    if not isinstance(row, Mapping):
        return None
    labels = _whole_numbers(row.get("labels"))
    if of_decoder:
        real = [label for label in labels or [] if label != IGNORED]
        return DeclaredRow((-1, *real), (False, *[True] * len(real)))
    tokens, attended = _whole_numbers(row.get("input_ids")), _whole_numbers(row.get("attention_mask"))
    if tokens is None:
        return None if of_decoder else _of_a_pair(row)
    masks = [_whole_numbers(row.get(name)) for name in MASKS]
    flags = [[bool(flag) for flag in mask] for mask in masks if mask is not None and len(mask) == len(tokens)]
    if labels is not None and len(labels) == len(tokens):
        tokens, learned = _with_labels(tokens, labels)
        flags = [flag + [True] * (len(tokens) - len(flag)) for flag in flags] + [learned]
    keep = [True] * len(tokens)
    if attended is not None and len(attended) <= len(tokens):
        keep[: len(attended)] = [bool(flag) for flag in attended]
    learned = [all(column) for column in zip(*flags, strict=True)] if flags else []
    kept = tuple(flag for flag, is_kept in zip(learned, keep, strict=False) if is_kept)
    return DeclaredRow(tuple(t for t, is_kept in zip(tokens, keep, strict=True) if is_kept), kept if flags else None)


def _of_a_pair(row: Mapping[str, Any]) -> DeclaredRow | None:
    """A row that holds what is given and what is to be learned apart, as tokens."""
    for names in PAIRS:
        given, learned = (_whole_numbers(row.get(name)) for name in names)
        if given and learned:
            return DeclaredRow((*given, *learned), (False,) * len(given) + (True,) * len(learned))
    return None


def _with_labels(tokens: list[int], labels: list[int]) -> tuple[list[int], list[bool]]:
    """The row's sequence and what of it is to be learned. Labels stand at their own tokens, or at those before them,
    where the data were shifted; then the last label is one token more.
    """
    learned = [label != IGNORED for label in labels]
    own = sum(a == b for a, b in zip(labels, tokens, strict=True))
    next_one = sum(a == b for a, b in zip(labels, tokens[1:], strict=False))
    if next_one <= own:
        return tokens, learned
    end = [labels[-1]] if learned[-1] else []
    return tokens + end, [False, *learned][: len(tokens) + len(end)]


def _whole_numbers(values: Any) -> list[int] | None:
    """A flat list of whole numbers, of a list, an array or a tensor; None for anything else."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, (int, bool)) for value in values):
        return None
    return [int(value) for value in values]


def _part_of(tokens: tuple[int, ...], rows: list[DeclaredRow]) -> tuple[DeclaredRow, int] | None:
    """The row that ``tokens`` are the beginning, the end or a middle of, or that has a token or two put around it."""
    for row in rows:
        for extra in (0, 1, 2):
            body = tokens[extra:]
            size = min(len(body), len(row.tokens))
            if size >= LEAST and len(body) <= len(row.tokens) + 2 and body[:size] == row.tokens[:size]:
                return row, -extra
        cut = len(row.tokens) - len(tokens)
        if len(tokens) >= LEAST and cut > 0 and row.tokens[cut:] == tokens:
            return row, cut
    return None
