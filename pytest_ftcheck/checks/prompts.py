"""Checks of which tokens are learned, against what the data themselves say is to be learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.declared import matches
from ..evidence.lessons import IGNORED
from ..evidence.sequences import Sequence, sequences, shown
from .check import Finding, check
from .sabotages.labels import FIRST_ANSWER_TOKEN_LOST, IGNORED_LEARNED, PROMPT_LEARNED

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..evidence.lessons import Lesson

# Fewer missing tokens than this share may be ones that the model is so sure of that their gradient is 0.
MISSING = 0.01


@dataclass
class Told:
    """What a source of labels says of one sequence: ``learned`` for each of its tokens (None: nothing)."""

    sequence: Sequence
    learned: list[bool | None]

    def unwanted(self) -> list[int]:
        """Places that are not to be learned, and are."""
        taught = set(self.sequence.replaced) | {i for i, hit in enumerate(self.sequence.taught) if hit}
        return [place for place in sorted(taught) if self.learned[place] is False]

    def missing(self) -> list[int]:
        """Places that are to be learned, and are not; the first token has nothing to be predicted from."""
        hits = self.sequence.taught
        return [place for place in range(1, len(hits)) if self.learned[place] and not hits[place]]


@check(
    "prompt-not-supervised",
    "labels",
    "nothing is learned where the labels or masks of the data say that it is not to be",
    controls=[PROMPT_LEARNED, IGNORED_LEARNED],
    catches=[
        "https://github.com/huggingface/trl/pull/456",
        "https://github.com/huggingface/trl/pull/4201",
        "https://github.com/huggingface/transformers/issues/22794",
    ],
)
def prompt_not_supervised(evidence: Evidence) -> Iterator[Finding]:
    header = list(_taught_headers(evidence))
    yield from header
    by_model, by_data = told_by_inputs(evidence), told_by_data(evidence)
    if not (by_model or by_data or header):
        raise NotApplicable("neither the data nor the model's inputs say which tokens are not to be learned")
    for told, where in ((by_model, "the labels that the model was given"), (by_data, "the data's own labels or masks")):
        finding = _unwanted(evidence, told, where)
        if finding is not None:
            yield finding
            return


def _unwanted(evidence: Evidence, told: list[Told], where: str) -> Finding | None:
    found = [(one, places) for one in told if (places := one.unwanted())]
    count, total = sum(len(places) for _, places in found), sequences(evidence).tokens
    if not count:
        return None
    replaced = sum(place in one.sequence.replaced for one, places in found for place in places)
    if replaced:
        cause = "-100 does not mean 'ignored' to the loss: ignore_index is another number, or -100 was replaced"
    elif "data" in where:
        cause = "the collator makes labels of its own from input_ids and drops those of the rows"
    else:
        cause = "the loss is taken over input_ids, or over all labels, and not over those that are not -100"
    one, places = found[0]
    return Finding(
        summary=f"{count} of {total} supervised tokens, in {len(found)} rows, are excluded from learning by {where}",
        cause=cause,
        remedy="mask the prompt with -100 in the labels that reach the loss, and keep ignore_index=-100 in it",
        evidence=(
            f"for example: {shown(evidence, [one.sequence.tokens[place] for place in places])}",
            f"{replaced} of them are taught another token than the one that stands there",
        ),
    )


@check(
    "declared-tokens-supervised",
    "labels",
    "every token that the labels or masks of the data mark is learned, as it stands there",
    controls=[FIRST_ANSWER_TOKEN_LOST],
)
def declared_tokens_supervised(evidence: Evidence) -> Iterator[Finding]:
    # Rows that mark everything were perhaps not meant to say anything: a collator may mask the prompt later.
    by_data = [one for one in told_by_data(evidence) if False in one.learned]
    by_model = told_by_inputs(evidence)
    if not (by_model or by_data):
        raise NotApplicable("neither the data nor the model's inputs say which tokens are to be learned")
    for told in (by_model, by_data):
        finding = _missing(evidence, told)
        if finding is not None:
            yield finding
            return


def _missing(evidence: Evidence, told: list[Told]) -> Finding | None:
    found = [(one, places) for one in told if (places := one.missing())]
    count = sum(len(places) for _, places in found)
    total = sum(bool(flag) for one in told for flag in one.learned[1:])
    if not count >= max(1, MISSING * total):
        return None
    where = {_where(one, places) for one, places in found}
    one, places = found[0]
    return Finding(
        summary=f"{count} of {total} tokens that the data mark for learning are not learned, in {len(found)} rows",
        cause=next(iter(where)) if len(where) == 1 else "labels were lost or moved between the data and the loss",
        remedy="compare the labels of one row of the data with those of its batch, position by position",
        evidence=(f"for example: {shown(evidence, [one.sequence.tokens[place] for place in places])}",),
    )


def _where(told: Told, places: list[int]) -> str:
    """The likely cause, from where in its row the tokens are missing."""
    marked = [place for place in range(1, len(told.learned)) if told.learned[place]]
    if places == marked[:1]:
        return "the mask of the prompt is one token too long: the first token of each answer is left out"
    if places == marked[-1:]:
        return "the last token of each row is left out: its end is masked, perhaps as padding"
    return "labels were lost or moved between the data and the loss"


def told_by_inputs(evidence: Evidence) -> list[Told]:
    """What the labels among the model's inputs say; empty where it has none, or they mask nothing."""

    def make() -> list[Told]:
        taught = sequences(evidence)
        return [] if taught.in_decoder else [told for one in taught.sequences if (told := _by_inputs(one)) is not None]

    return evidence.once("told by inputs", make)


def _by_inputs(one: Sequence) -> Told | None:
    labels: Any = one.lesson.forward.inputs.get("labels")
    shift = _shift_of(one.lesson, labels)
    if shift is None:
        return None
    row = labels[one.row].tolist()
    at = [place - shift for place in one.places]
    return Told(one, [row[place] != IGNORED if 0 <= place < len(row) else None for place in at])


def _shift_of(lesson: Lesson, labels: Any) -> int | None:
    """0 where labels stand at their own tokens, 1 where they stand before them; None where they show neither."""
    import torch

    ids = lesson.forward.input_ids
    if not isinstance(labels, torch.Tensor) or ids is None or labels.shape != ids.shape:
        return None
    marked = labels != IGNORED
    own = int((labels == ids)[marked].sum())
    following = int((labels[:, :-1] == ids[:, 1:])[marked[:, :-1]].sum())
    return None if own == following else int(following > own)


def told_by_data(evidence: Evidence) -> list[Told]:
    """What the rows of the data say of the sequences that are recognised as theirs."""

    def make() -> list[Told]:
        known = [one for one in matches(evidence) if one.row.learned is not None]
        return [Told(one.sequence, [one.is_learned(i) for i in range(len(one.sequence.tokens))]) for one in known]

    return evidence.once("told by data", make)


def _taught_headers(evidence: Evidence) -> Iterator[Finding]:
    """What a chat template puts before an answer is part of the prompt, where the prompt is not learned."""
    trainer = evidence.standard.job.trainer
    header = generation_prompt(trainer.tokenizer) if trainer is not None else []
    if not header:
        return
    taught = sequences(evidence).sequences
    found = [one for one in taught if any(_begins_answer(one, at, header) for at in range(2, len(one.tokens)))]
    if found:
        yield Finding(
            summary=f"{len(found)} of {len(taught)} rows learn the header that the chat template puts before an answer",
            cause="the prompt was tokenised without the generation prompt, so that its tokens count as the answer's",
            remedy="apply the chat template to the prompt with add_generation_prompt=True before measuring its length",
            evidence=(f"the header: {shown(evidence, header)}",),
        )


def _begins_answer(one: Sequence, at: int, header: list[int]) -> bool:
    """Whether ``header`` is at ``at``, learned at least in part, after a prompt that is not."""
    size = len(header)
    masked = not (one.taught[at - 1] or one.taught[at - 2] or one.taught[1])
    return masked and one.tokens[at : at + size] == header and any(one.taught[at : at + size])


def generation_prompt(tokenizer: Any) -> list[int]:
    """The tokens that the tokenizer's chat template puts before an answer; empty where that cannot be told."""
    messages = [{"role": "user", "content": "a"}]
    try:
        asked, ready = (
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ready)
            for ready in (False, True)
        )
        if not ready.startswith(asked):
            return []
        ids = tokenizer(ready[len(asked) :], add_special_tokens=False)["input_ids"]
    except Exception:
        # No template, no tokenizer, or one that wants other messages.
        return []
    return [int(token) for token in ids]
