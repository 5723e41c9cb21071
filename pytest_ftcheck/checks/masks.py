"""The check that the attention mask hides padding, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rows import not_padding
from ..evidence.stream import Rows, batches, tokens_of_row, train_rows
from .check import Finding, check
from .sabotages.data import TOKENS_HIDDEN

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.stream import Batch

# A mask that hides less than this share of a row's tokens may do so on purpose (an end that is also the padding token).
HIDDEN_SHARE = 0.25


@check(
    "mask-shows-the-rows",
    "data",
    "the attention mask hides padding and no tokens of the rows",
    controls=[TOKENS_HIDDEN],
)
def mask_shows_the_rows(evidence: Evidence) -> Iterator[Finding]:
    inverted, padded = _inverted(evidence)
    if 2 * inverted > padded:
        yield Finding(
            summary=f"in {inverted} of {padded} padded rows the mask shows the padding and hides every token",
            cause="the mask is inverted: 1 must mean a token, 0 padding (transformers; torch's key_padding_mask is the "
            "other way round)",
            remedy="attention_mask = (input_ids != pad_token_id).long(), or ~key_padding_mask",
        )
        return
    known, told, hiding = train_rows(evidence), 0, 0
    for batch in batches(evidence.trace):
        for hidden in _hidden_shares(batch, known):
            told += 1
            hiding += hidden > HIDDEN_SHARE
    if not told:
        raise NotApplicable("no attention mask over rows of the data was seen")
    if 10 * hiding > told:
        yield Finding(
            summary=f"{hiding} of {told} rows reach the model with more than {HIDDEN_SHARE:.0%} of their tokens masked "
            "as padding",
            cause="the mask is inverted (1 must mean a token, 0 padding), of another batch, or made for padding on the "
            "other side",
            remedy="make the mask where the padding is made: 1 for each token of the row, 0 for each that was added",
        )


def _inverted(evidence: Evidence) -> tuple[int, int]:
    """How many padded rows have a mask that is the opposite of what their tokens say, and how many there are."""
    import torch

    pad = getattr(getattr(evidence.trace.model, "config", None), "pad_token_id", None)
    inverted, padded = 0, 0
    for forward in evidence.trace.forwards:
        ids, mask = forward.input_ids, forward.inputs.get("attention_mask")
        if ids is None or not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
            continue
        real = not_padding(ids, pad if isinstance(pad, int) else None)
        some = ~real.all(dim=1) & real.any(dim=1)
        inverted += int((((mask != 0) == ~real).all(dim=1) & some).sum())
        padded += int(some.sum())
    return inverted, padded


def _hidden_shares(batch: Batch, known: Rows) -> Iterator[float]:
    """For each row of a batch that is a row of the data: which share of its tokens the mask hides, but for the last."""
    import torch

    ids, mask = batch.forward.input_ids, batch.forward.inputs.get("attention_mask")
    if ids is None or not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
        return
    for row, shown in zip(ids.tolist(), mask.tolist(), strict=True):
        number = known.number_of(tuple(row))
        tokens = tokens_of_row(known.rows[number]) if number is not None else None
        if not tokens:
            continue
        # Padding is on one side: the row's tokens are where they fit.
        start = 0 if tuple(row[: len(tokens)]) == tokens else len(row) - len(tokens)
        if tuple(row[start : start + len(tokens)]) == tokens:
            inner = shown[start : start + len(tokens) - 1]
            yield sum(not value for value in inner) / max(1, len(inner))
