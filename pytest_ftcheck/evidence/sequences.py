"""The sequences that a language model was taught: the tokens of each row, without padding, and which of them it learned
to predict. This is what the checks of labels read; it is told from the gradient of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .lessons import (
    IGNORED,
    LEFT_TO_RIGHT,
    MOST,
    Lesson,
    agreement_by_shift,
    is_called,
    is_encoder_decoder,
    left_to_right,
)
from .rows import not_padding, real_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .evidence import Evidence


@dataclass
class Sequence:
    """One row of a batch, or one document of a packed row: its ``tokens`` without padding, which were ``taught``
    (predicted by a supervised position before them), and their ``places`` in the row. A token that the input does not
    show, because inputs and labels were shifted in the data, is there as well.

    ``replaced``: places in whose stead another token was taught. ``after_padding``, ``after_document``: its first token
    was taught, from padding or from the document before it in the row. ``then_padding``: padding was taught after its
    end. ``is_packed``: its row holds other documents too.
    """

    lesson: Lesson
    row: int
    tokens: list[int]
    taught: list[bool]
    places: list[int]
    replaced: list[int] = field(default_factory=list)
    after_padding: bool = False
    after_document: bool = False
    then_padding: bool = False
    is_packed: bool = False


@dataclass
class Taught:
    """All sequences of a training, packed rows cut into documents. ``padding`` counts the positions that are padding,
    ``from_padding`` those of them that are supervised. ``in_decoder``: the sequences are those of an encoder-decoder's
    decoder.
    """

    sequences: list[Sequence]
    padding: int
    from_padding: int
    in_decoder: bool

    @property
    def tokens(self) -> int:
        """How many tokens were taught."""
        return sum(sum(one.taught) + len(one.replaced) for one in self.sequences)


def shown(evidence: Evidence, tokens: list[int], most: int = 12) -> str:
    """``tokens`` as words where the trainer's tokenizer is known, as numbers otherwise; at most the last ``most``."""
    trainer = evidence.standard.job.trainer
    words = getattr(trainer and trainer.tokenizer, "convert_ids_to_tokens", lambda ids: ids)
    text = " ".join(str(word) for word in words(tokens[-most:]))
    return f"... {text}" if len(tokens) > most else text


def sequences(evidence: Evidence) -> Taught:
    """What was taught, token by token. NotApplicable where the training is not of a left-to-right language model by
    cross-entropy, or its labels are shifted wrongly (which has a check of its own).
    """
    return evidence.once("sequences", lambda: _sequences(evidence))


def _sequences(evidence: Evidence) -> Taught:
    usable = left_to_right(evidence)
    model = evidence.trace.model
    shifts = agreement_by_shift(usable, model)
    if max(shifts, key=lambda shift: shifts[shift]) != 1 and max(shifts.values()) >= MOST:
        raise NotApplicable("the labels are shifted wrongly: see labels-shifted-once")
    if shifts[1] < 0.5 and not is_called(model, LEFT_TO_RIGHT):
        raise NotApplicable("the targets are not the tokens that follow")
    taught = Taught([], 0, 0, is_encoder_decoder(model))
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    for lesson in usable:
        _collect(lesson, taught, pad if isinstance(pad, int) else None)
    return taught


def _collect(lesson: Lesson, taught: Taught, pad: int | None) -> None:
    """Add the sequences of one forward pass to ``taught``."""
    import torch

    forward, seen = lesson.forward, lesson.seen
    ids = forward.input_ids
    if taught.in_decoder or ids is None or ids.shape != seen.targets.shape:
        ids, real = _decoded(lesson, pad)
    else:
        real = real_tokens(forward, pad)
    starts = document_starts(forward.inputs.get("position_ids"), real)
    taught.padding += int((~real).sum())
    taught.from_padding += int((seen.supervised & ~real).sum())
    for row in range(len(ids)):
        places = torch.nonzero(real[row])[:, 0].tolist()
        columns = [t[row].tolist() for t in (ids, seen.supervised, seen.targets)]
        if places:
            taught.sequences += _of_row(lesson, row, places, starts[row], columns)


def _decoded(lesson: Lesson, pad: int | None) -> tuple[Tensor, Tensor]:
    """The decoder's inputs, and which of them are real. Made from labels alone they start with -1, for the token that
    starts them, and the token at a label of -100 is padding.
    """
    import torch

    inputs = lesson.forward.inputs
    labels, ids = inputs.get("labels"), inputs.get("decoder_input_ids")
    mask = inputs.get("decoder_attention_mask")
    if ids is None:
        assert labels is not None
        ids = torch.cat([torch.full_like(labels[:, :1], -1), labels[:, :-1]], dim=1)
        ids = ids.masked_fill(ids == IGNORED, IGNORED if pad is None else pad)
    elif isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        return ids, mask != 0
    # The token that starts a decoder is often the one that pads.
    begin = torch.ones_like(ids[:, :1], dtype=torch.bool)
    return ids, torch.cat([begin, not_padding(ids[:, 1:], pad)], dim=1)


def document_starts(position_ids: Any, real: Tensor) -> list[set[int]]:
    """For each row the places at which a document begins after another: where the positions start again."""
    import torch

    if not isinstance(position_ids, torch.Tensor) or position_ids.shape != real.shape:
        return [set() for _ in real]
    restart = torch.zeros_like(real)
    both = real[:, 1:] & real[:, :-1]
    restart[:, 1:] = (position_ids[:, 1:] == 0) & both
    # Zeros all along are no documents of one token, but no positions (positions-count-up says so).
    alike = (position_ids[:, 1:] == position_ids[:, :-1]) & both
    restart &= (2 * alike.sum(dim=1) <= both.sum(dim=1))[:, None]
    return [set(torch.nonzero(row)[:, 0].tolist()) for row in restart]


def _of_row(
    lesson: Lesson, row: int, places: list[int], starts: set[int], columns: list[list[Any]]
) -> Iterator[Sequence]:
    """The sequences of one row: its real ``places``, cut where documents begin."""
    ids, supervised, targets = columns
    one, is_first = Sequence(lesson, row, [], [], [], is_packed=bool(starts)), True
    for place in places:
        if place in starts and one.tokens:
            yield one
            one, is_first = Sequence(lesson, row, [], [], [], is_packed=True), False
        predicted = place > 0 and supervised[place - 1]
        hit = predicted and targets[place - 1] == ids[place]
        if predicted and not one.tokens:
            one.after_document, one.after_padding = not is_first, is_first
        if predicted and not hit:
            one.replaced.append(len(one.tokens))
        one.tokens.append(ids[place])
        one.taught.append(hit)
        one.places.append(place)
    last = places[-1]
    if supervised[last]:
        one.then_padding = last + 1 < len(ids) and targets[last] == ids[last + 1]
        if not one.then_padding:
            # Inputs and labels were shifted in the data: the last label is no input of this row.
            one.tokens.append(targets[last])
            one.taught.append(True)
            one.places.append(last + 1)
    yield one
