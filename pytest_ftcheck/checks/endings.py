"""The end of a sequence must be learned, or the model never stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.declared import declared_rows, matches
from ..evidence.sequences import Sequence, sequences, shown
from .check import Finding, check
from .sabotages.endings import END_CUT_OFF, END_NOT_LEARNED

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# Rows have a common end where this share of them ends with the same token.
COMMON = 0.9
# Of fewer different rows it says nothing.
FEW = 4
# Answers to be cut to length, or of one length by nature, come in fewer.
LENGTHS = 3
# What trainers' arguments call the length that they cut rows to.
MAXIMA = ("max_length", "max_seq_length")


@check(
    "end-of-sequence-supervised",
    "labels",
    "the token that ends the rows is learned in every row that has not been cut",
    controls=[END_NOT_LEARNED, END_CUT_OFF],
    catches=[
        "https://github.com/huggingface/transformers/issues/23530",
        "https://github.com/huggingface/trl/issues/976",
    ],
)
def end_of_sequence_supervised(evidence: Evidence) -> Iterator[Finding]:
    taught = sequences(evidence)
    rows = {row.tokens for row in declared_rows(evidence, taught.in_decoder)} & {
        m.row.tokens for m in matches(evidence)
    }
    seen = {tuple(one.tokens) for one in taught.sequences}
    end = common_end(rows) if rows else None
    if end is not None:
        yield from _cut_off(evidence, end)
    else:
        end = common_end(seen)
    if end is not None:
        yield from _not_learned(evidence, [one for one in taught.sequences if one.tokens[-1] == end], end)
        return
    if not taught.in_decoder and _never_ends(evidence, seen):
        yield _no_end(evidence, len(seen))
        return
    if not taught.in_decoder and _all_cut(evidence, seen):
        yield _cut_at_the_maximum(evidence, seen)
        return
    raise NotApplicable("the rows have no token in common that ends them")


def common_end(rows: set[tuple[int, ...]]) -> int | None:
    """The last token of (nearly) all of several ragged rows; None where they are of one length or end differently."""
    rows = {row for row in rows if len(row) > 1}
    if len(rows) < FEW or len({len(row) for row in rows}) < 2:
        return None
    token, count = Counter(row[-1] for row in rows).most_common(1)[0]
    return token if count >= COMMON * len(rows) else None


def _not_learned(evidence: Evidence, ended: list[Sequence], end: int) -> Iterator[Finding]:
    def is_learned(one: Sequence) -> bool:
        # Templates put a line break after the token that ends a turn: then the turn's end is what counts.
        before = [one.tokens[-2], one.taught[-2]] == [last_but_one, True]
        return one.taught[-1] or (before and special)

    ended = [one for one in ended if len(one.tokens) > 1]
    if not ended:
        return
    last_but_one, count = Counter(one.tokens[-2] for one in ended).most_common(1)[0]
    special = count >= COMMON * len(ended)
    # A row of which nothing is learned has another check.
    taught = [one for one in ended if any(one.taught)]
    missing = [one for one in taught if not is_learned(one)]
    if not missing:
        return
    pad = getattr(getattr(evidence.trace.model, "config", None), "pad_token_id", None)
    pads = {pad, getattr(_tokenizer(evidence), "pad_token_id", None), *(_padded_with(one) for one in missing)}
    by_padding = f"padding is the same token, {end}, and the collator masks all of it" if end in pads else ""
    yield Finding(
        summary=f"{len(missing)} of {len(taught)} rows do not learn the token that ends them, {shown(evidence, [end])}",
        cause=by_padding or "the label of the last token is -100, or was cut off by a shift or a mask",
        remedy="give padding a token of its own, or mask it by the attention mask and not by the token"
        if by_padding
        else "keep the label of the end-of-sequence token",
        evidence=(
            f"a row that ends so: {shown(evidence, missing[0].tokens)}",
            "a model that learns no end never stops",
        ),
    )


def _padded_with(one: Sequence) -> int | None:
    """The token that follows the row in its batch, which is padding."""
    ids = one.lesson.forward.input_ids
    after = one.places[-1] + 1
    if ids is None or one.row >= len(ids) or after >= ids.shape[1]:
        return None
    return int(ids[one.row, after])


def _cut_off(evidence: Evidence, end: int) -> Iterator[Finding]:
    """Rows of the data that end with ``end`` and reached the model without it, though they had room for it."""
    known = [one for one in matches(evidence) if one.row.tokens[-1] == end]
    longest = max((len(one.sequence.tokens) for one in known), default=0)
    cut = [one for one in known if one.is_cut_at_end and one.sequence.tokens[-1] != end]
    short = [one for one in cut if len(one.sequence.tokens) < longest]
    # Of long rows some may be cut at a maximal length; not most of all.
    if short or 2 * len(cut) > len(known):
        yield Finding(
            summary=f"{len(cut)} of {len(known)} rows reach the model without the token that ends them in the data, "
            f"{shown(evidence, [end])}",
            cause="the end is cut off before batching" + (": the rows are truncated at their end" if not short else ""),
            remedy="truncate the text and append the end-of-sequence token afterwards; raise the maximum length",
            evidence=(f"a row that ends too early: {shown(evidence, cut[0].sequence.tokens)}",),
        )


def _never_ends(evidence: Evidence, seen: set[tuple[int, ...]]) -> bool:
    """Whether these are answers to prompts, ragged, that end in no special way, though the model knows an end."""
    ends = _end_tokens(evidence)
    answered = [one for one in sequences(evidence).sequences if _is_answer(one)]
    rows = {tuple(one.tokens) for one in answered}
    ragged = len({len(row) for row in rows}) >= LENGTHS
    return bool(ends) and len(rows) >= 2 * FEW and rows == seen and ragged and not any(ends & set(row) for row in rows)


def _all_cut(evidence: Evidence, seen: set[tuple[int, ...]]) -> bool:
    """Whether a trainer has cut every row at its maximal length, before the end that the model knows."""
    trainer = evidence.standard.job.trainer
    most = next((v for n in MAXIMA if (v := getattr(trainer and trainer.arguments, n, None)) is not None), None)
    answered = {tuple(one.tokens) for one in sequences(evidence).sequences if _is_answer(one)}
    ends = _end_tokens(evidence)
    return (
        bool(ends)
        and len(seen) >= FEW
        and answered == seen
        and all(len(row) == most and not ends & set(row) for row in seen)
    )


def _cut_at_the_maximum(evidence: Evidence, seen: set[tuple[int, ...]]) -> Finding:
    length = len(next(iter(seen)))
    return Finding(
        summary=f"all of {len(seen)} different rows are cut at {length} tokens, before any end-of-sequence token",
        cause="the maximal length is too short for the rows: what they end with is cut away, and rows that lose their "
        "whole answer are dropped",
        remedy="raise the maximal length (max_length), or shorten the prompts",
        evidence=("a model that learns no end never stops",),
    )


def _is_answer(one: Sequence) -> bool:
    """Whether a prompt of two tokens or more is left out, and all that follows it is learned."""
    first = one.taught.index(True) if True in one.taught else 0
    return first >= 2 and all(one.taught[first:])


def _end_tokens(evidence: Evidence) -> set[int]:
    config = getattr(evidence.trace.model, "config", None)
    named: Any = getattr(config, "eos_token_id", None)
    ids = named if isinstance(named, (list, tuple)) else [named]
    size = getattr(config, "vocab_size", None) or 0
    return {token for token in ids if isinstance(token, int) and 0 <= token < size}


def _no_end(evidence: Evidence, rows: int) -> Finding:
    ends = sorted(_end_tokens(evidence))
    return Finding(
        summary=f"none of {rows} different rows ends with an end-of-sequence token ({shown(evidence, ends)})",
        cause="it is not appended to the answers, or was truncated away: answers of any length end in no special way",
        remedy="append the tokenizer's eos_token to each answer, and supervise it",
    )


def _tokenizer(evidence: Evidence) -> Any:
    trainer = evidence.standard.job.trainer
    return trainer.tokenizer if trainer is not None else None
