"""Checks of what is supervised: read off the gradient of the logits, so that they hold for any loss function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.lessons import MOST, agreement_by_shift, is_encoder_decoder, left_to_right, lessons, predicted_ids
from ..evidence.rows import real_tokens
from ..evidence.sequences import sequences
from .check import Finding, check
from .sabotages.labels import (
    LABELS_NOT_SHIFTED,
    LABELS_SHIFTED_TWICE,
    ONE_TARGET,
    PADDING_LEARNED,
    ROW_WITHOUT_TARGETS,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence
    from ..evidence.lessons import Lesson

# Of fewer taught tokens it says nothing that all are the same.
FEW_TARGETS = 20
# Below this share of agreement with any shift the targets are elsewhere altogether.
SCRAMBLED = 0.5
# Real text in the right vocabulary has next to no unknown tokens.
MOST_UNKNOWN = 0.1

TAUGHT_AT = {
    -1: ("the token before", "backwards"),
    0: ("the token that they are at", "nowhere"),
    2: ("the token after next", "twice: in the data and again in the loss"),
    3: ("the third token on", "three times"),
}


@check(
    "labels-shifted-once",
    "labels",
    "each position of a causal language model is taught the token that follows it",
    controls=[LABELS_NOT_SHIFTED, LABELS_SHIFTED_TWICE],
    catches=["https://github.com/macrocosm-os/pretraining/pull/64"],
)
def labels_shifted_once(evidence: Evidence) -> Iterator[Finding]:
    usable = left_to_right(evidence)
    agreeing = agreement_by_shift(usable, evidence.trace.model)
    best = max(agreeing, key=lambda shift: agreeing[shift])
    if agreeing[best] < SCRAMBLED:
        yield from _scrambled(usable, evidence.trace.model, agreeing[1])
    if agreeing[best] < MOST or agreeing[1] >= MOST:
        return
    taught, shifted = TAUGHT_AT[best]
    yield Finding(
        summary=f"{agreeing[best]:.1%} of the supervised positions are taught {taught}, "
        f"{agreeing[1]:.1%} the next token",
        cause=f"the loss shifts labels and logits against each other {shifted}",
        remedy="shift exactly once: logits[:, :-1] against labels[:, 1:], or leave it to the model's own loss",
    )


def _scrambled(usable: list[Lesson], model: nn.Module, agreeing: float) -> Iterator[Finding]:
    """Targets that are the next tokens of the batch, each as often as it is there, and at other positions."""
    moved, total = 0, 0
    for lesson in usable:
        ids, seen = predicted_ids(lesson, model), lesson.seen
        assert ids is not None
        taught = Counter(seen.targets[seen.supervised].tolist())
        moved += sum((taught & Counter(ids[:, 1:].flatten().tolist())).values())
        # A batch whose text is not all supervised has more tokens than are taught: then this says nothing.
        total += ids[:, 1:].numel()
    if moved >= MOST * total and total >= FEW_TARGETS:
        yield Finding(
            summary=f"{agreeing:.1%} of the supervised positions are taught the token that follows them; {moved} of "
            f"{total} following tokens are taught at other positions",
            cause="logits and labels are flattened in different orders (rows first against positions first, view() of "
            "a transposed tensor)",
            remedy="bring both to [rows, length] before flatten(0, 1)",
        )


@check(
    "padding-not-supervised",
    "labels",
    "no position that is padding, and no prediction of padding, is in the loss",
    controls=[PADDING_LEARNED],
    catches=[
        "https://github.com/huggingface/transformers/issues/22794",
        "https://github.com/unslothai/unsloth/pull/9848",
    ],
)
def padding_not_supervised(evidence: Evidence) -> Iterator[Finding]:
    padded, supervised, on_padding = _on_padding(evidence)
    after_end, from_left = _beyond_the_text(evidence)
    if not padded:
        raise NotApplicable("no batch was padded")
    if on_padding + after_end == 0:
        return
    cause = (
        "labels at padding are not -100, or the loss function does not leave them out (ignore_index, attention mask)"
    )
    if from_left and from_left == on_padding:
        cause = "rows are padded on the left, and their first real token is taught from the padding before it"
    yield Finding(
        summary=f"{on_padding + after_end} of {supervised} supervised positions are padding, or are taught padding",
        cause=cause,
        remedy="set the labels of padding (and of the first token of a row padded on the left) to -100",
        evidence=(
            f"{on_padding} positions are padding themselves, {from_left} of them before a row's first real token",
            f"{after_end} ends of rows are taught that padding follows",
        ),
    )


def _on_padding(evidence: Evidence) -> tuple[int, int, int]:
    """How many positions of all batches are padding, are supervised, and are both."""
    if is_encoder_decoder(evidence.trace.model):
        taught = sequences(evidence)
        return taught.padding, taught.tokens + taught.from_padding, taught.from_padding
    padded, supervised, both = 0, 0, 0
    for lesson, real in _rows_with_padding(evidence):
        padded += int((~real).sum())
        supervised += lesson.seen.count
        both += int((lesson.seen.supervised & ~real).sum())
    return padded, supervised, both


def _rows_with_padding(evidence: Evidence) -> Iterator[tuple[Lesson, Tensor]]:
    """Each forward pass whose logits stand at the tokens of its inputs, and which of those are real."""
    config = getattr(evidence.trace.model, "config", None)
    pad = getattr(config, "pad_token_id", None)
    for lesson in lessons(evidence):
        ids = lesson.forward.input_ids
        if ids is not None and ids.dim() == 2 and ids.shape == lesson.seen.targets.shape:
            yield lesson, real_tokens(lesson.forward, pad if isinstance(pad, int) else None)


def _beyond_the_text(evidence: Evidence) -> tuple[int, int]:
    """How many rows that had ended are taught padding after their end, and how many first tokens from padding."""
    try:
        taught = sequences(evidence).sequences
    except NotApplicable:
        return 0, 0
    last = Counter(one.tokens[-1] for one in taught)
    end, count = last.most_common(1)[0]
    ended = count >= 0.9 * len(taught)
    after_end = sum(one.then_padding and (ended and one.tokens[-1] == end) for one in taught)
    return after_end, sum(one.after_padding for one in taught)


@check(
    "every-row-supervised",
    "labels",
    "every row that reaches the model holds tokens, and at least one that is learned",
    controls=[ROW_WITHOUT_TARGETS],
    catches=["https://github.com/huggingface/trl/pull/3398"],
)
def every_row_supervised(evidence: Evidence) -> Iterator[Finding]:
    empty = list(_rows_of_padding(evidence))
    yield from empty
    if not empty:
        # What is left out of the loss on purpose is known of language models only.
        yield from _idle_rows(evidence)


def _idle_rows(evidence: Evidence) -> Iterator[Finding]:
    left_to_right(evidence)
    rows, idle, batches = 0, 0, 0
    for lesson in lessons(evidence):
        if lesson.seen.supervised.dim() == 2:
            taught = lesson.seen.supervised.any(dim=1)
            rows, idle = rows + len(taught), idle + int((~taught).sum())
            batches += not bool(taught.any())
    if idle:
        yield Finding(
            summary=f"{idle} of {rows} rows in training have no supervised position: nothing to learn",
            cause="all their labels are -100: a prompt fills the whole length, or a template was not found in them",
            remedy="leave such rows out, shorten their prompts, or repair what masks the labels",
            evidence=(f"{batches} micro-batches consist of such rows only",) if batches else (),
        )


def _rows_of_padding(evidence: Evidence) -> Iterator[Finding]:
    import torch

    rows, empty = 0, 0
    for forward in evidence.trace.forwards:
        mask, ids = forward.inputs.get("attention_mask"), forward.input_ids
        if isinstance(mask, torch.Tensor) and ids is not None and mask.shape == ids.shape:
            rows, empty = rows + len(mask), empty + int((~mask.bool().any(dim=1)).sum())
    if empty:
        yield Finding(
            summary=f"{empty} of {rows} rows that the model was trained on are nothing but padding",
            cause="truncation cut the text away and kept the padding, which was put at the other side before",
            remedy="truncate each row before it is padded, or upgrade the library that does it",
        )


@check(
    "targets-are-real-tokens",
    "labels",
    "what is learned is the text: not one constant token, and hardly any unknown ones",
    controls=[ONE_TARGET],
)
def targets_are_real_tokens(evidence: Evidence) -> Iterator[Finding]:
    targets: Counter[int] = Counter()
    for lesson in left_to_right(evidence):
        targets.update(lesson.seen.targets[lesson.seen.supervised].tolist())
    total = sum(targets.values())
    token, _ = targets.most_common(1)[0]
    if len(targets) == 1 and total >= FEW_TARGETS:
        yield Finding(
            summary=f"all {total} supervised positions are taught one and the same token, {token}",
            cause="the labels were overwritten, or everything but one token of each row is masked",
            remedy="print the labels of one batch, decoded, and repair what makes them",
        )
    trainer = evidence.standard.job.trainer
    unknown = getattr(trainer and trainer.tokenizer, "unk_token_id", None)
    if unknown is not None and not targets[unknown] <= MOST_UNKNOWN * total:
        yield Finding(
            summary=f"{targets[unknown]} of {total} supervised tokens are the tokenizer's unknown token, {unknown}",
            cause="the tokenizer is not the one that the text (or its special tokens) was written for",
            remedy="load the tokenizer that belongs to the base model, and add the template's special tokens to it",
        )
