"""Documents packed into one row must not know of each other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.alone import SAME, compared
from ..evidence.declared import matches, rows_with_tokens
from ..evidence.sequences import Sequence, document_starts, sequences, shown
from .check import Finding, check
from .sabotages.packing import HEADLESS, PACKED_TOGETHER

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# Rows begin alike where all of them, and at least so many, begin with the same token.
FEW = 3
# Where only the training shows how rows begin, a special token that begins so many of them is meant to begin all.
MOST_BEGIN = 0.6


@check(
    "packed-documents-do-not-see-each-other",
    "loss",
    "a document that shares its row with others has the logits that it has alone, and is not learned from them",
    controls=[PACKED_TOGETHER],
    cost="model",
)
def packed_documents_do_not_see_each_other(evidence: Evidence) -> Iterator[Finding]:
    documents = _documents(evidence)
    inputs = evidence.inputs()
    found = compared(evidence, documents, inputs)
    wrong = [one for one in found if not one.difference <= SAME]
    if wrong:
        masked = inputs.get("attention_mask") is not None
        yield Finding(
            summary=f"{len(wrong)} of {len(found)} packed documents have other logits than alone: by "
            f"{max(one.difference for one in wrong):.2g} of the largest",
            cause="documents of a row attend to each other"
            + (
                ": an attention_mask of ones overrules position_ids"
                if masked
                else ": only position_ids tell them apart"
            ),
            remedy="leave attention_mask out so that position_ids decide, or use an attention that knows documents",
        )
    crossing = _crossing(evidence)
    if crossing:
        yield Finding(
            summary=f"{crossing} documents have their first token learned from the document before them in the row",
            cause="the label of the first token of each packed document is not -100",
            remedy="set the labels where position_ids are 0 to -100",
        )


def _documents(evidence: Evidence) -> list[tuple[int, list[int]]]:
    """(row, places) of each document of the first batch; those after another first."""
    import torch

    forwards = evidence.trace.forwards
    ids = forwards[0].input_ids if forwards else None
    if ids is None:
        raise NotApplicable("the model's inputs show no tokens by name")
    positions, mask = (forwards[0].inputs.get(name) for name in ("position_ids", "attention_mask"))
    real = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        real = mask != 0
    found = []
    for row, starts in enumerate(document_starts(positions, real)):
        places = real[row].nonzero()[:, 0].tolist()
        cuts = [*sorted(starts), places[-1] + 1 if places else 0]
        found += [(row, [p for p in places if a <= p < b]) for a, b in itertools.pairwise(cuts)]
    if not found:
        raise NotApplicable("no row holds several documents, as far as position_ids show")
    return found


def _crossing(evidence: Evidence) -> int:
    try:
        return sum(one.after_document for one in sequences(evidence).sequences)
    except NotApplicable:
        return 0


@check(
    "sequences-begin-as-rows-begin",
    "labels",
    "where all rows of the data begin with the same token, so does every sequence that is learned",
    controls=[HEADLESS],
    catches=["https://github.com/huggingface/trl/pull/5076"],
)
def sequences_begin_as_rows_begin(evidence: Evidence) -> Iterator[Finding]:
    taught = sequences(evidence)
    if taught.in_decoder:
        raise NotApplicable("a decoder begins in its own way")
    beginning = _common_beginning(evidence, taught.sequences)
    if beginning is None:
        raise NotApplicable("the rows do not begin with a token in common")
    pieces = {id(one.sequence) for one in matches(evidence) if one.offset > 0}
    headless = [one for one in taught.sequences if one.tokens[0] != beginning and (one.is_packed or id(one) in pieces)]
    if not headless:
        return
    packed = any(one.is_packed for one in headless)
    yield Finding(
        summary=f"{len(headless)} of {len(taught.sequences)} sequences do not begin with the token that begins every "
        f"row of the data, {shown(evidence, [beginning])}",
        cause="packing cuts rows and starts new documents with the pieces that are left over"
        if packed
        else "rows are truncated at their beginning, or the token that begins them is dropped",
        remedy="truncate or split rows so that every sequence keeps its beginning; upgrade the library that packs them",
        evidence=(f"for example: {shown(evidence, headless[0].tokens[:8])}",),
    )


def _common_beginning(evidence: Evidence, seen: list[Sequence]) -> int | None:
    """The first token of every row of the data; where those are texts, the special token that begins most documents."""
    job = evidence.standard.job
    rows = {row.tokens for row in rows_with_tokens(job.train_data)}
    first = Counter(row[0] for row in rows)
    if len(rows) >= FEW and len(first) == 1:
        return next(iter(first))
    if rows or job.trainer is None:
        return None
    token, count = Counter(one.tokens[0] for one in seen).most_common(1)[0]
    special = getattr(job.trainer.tokenizer, "all_special_ids", ())
    return token if token in special and count >= MOST_BEGIN * len(seen) and len(seen) >= FEW else None
