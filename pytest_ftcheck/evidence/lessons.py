"""The forward passes of a training and what each was taught, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from .supervision import Supervision, supervision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..observers.update import ForwardPass, Update
    from .evidence import Evidence

# How many of the supervised tokens must agree on a shift before it is called one: copies and repeats agree by chance.
MOST = 0.98
IGNORED = -100
# Models that are taught the tokens that were hidden from them, or classes, at the positions of the input themselves.
NOT_LEFT_TO_RIGHT = ("MaskedLM", "TokenClassification", "QuestionAnswering", "ForPreTraining", "MultipleChoice")
LEFT_TO_RIGHT = ("CausalLM", "LMHead", "ConditionalGeneration", "Seq2SeqLM")


@dataclass(frozen=True)
class Lesson:
    """One forward pass and what it was taught."""

    update: Update
    number: int
    forward: ForwardPass
    seen: Supervision


def lessons(evidence: Evidence) -> list[Lesson]:
    """Every forward pass whose logits received a gradient (which may be 0) that reached an update. NotApplicable where
    none did.
    """

    def make() -> list[Lesson]:
        found = []
        for number, update in enumerate(evidence.trace.updates, 1):
            for backward in update.backwards:
                for forward in backward.forwards:
                    seen = supervision(forward, backward.scale)
                    if seen is not None:
                        found.append(Lesson(update, number, forward, seen))
        if not found:
            raise NotApplicable("no gradient of logits was seen")
        return found

    return evidence.once("lessons", make)


def left_to_right(evidence: Evidence) -> list[Lesson]:
    """The forward passes whose loss is a cross-entropy over the vocabulary at each position of a sequence."""
    model = evidence.trace.model
    if is_called(model, NOT_LEFT_TO_RIGHT):
        raise NotApplicable("the model does not predict from left to right")
    usable = [one for one in lessons(evidence) if one.seen.is_cross_entropy and predicted_ids(one, model) is not None]
    if not usable:
        raise NotApplicable("no cross-entropy over the tokens of a sequence was seen")
    return usable


def agreement_by_shift(usable: list[Lesson], model: nn.Module) -> dict[int, float]:
    """Shift -> share of the supervised positions whose target is the input that many positions on. Of sequences
    that are too short for the larger shifts, those up to the next token.
    """
    for furthest in (3, 1):
        found = _agreement(usable, model, furthest)
        if found is not None:
            return found
    raise NotApplicable("too short sequences to tell which tokens are taught where")


def _agreement(usable: list[Lesson], model: nn.Module, furthest: int) -> dict[int, float] | None:
    hits, total = dict.fromkeys(range(-1, furthest + 1), 0), 0
    for lesson in usable:
        ids, supervised, targets = predicted_ids(lesson, model), lesson.seen.supervised, lesson.seen.targets
        assert ids is not None
        inner = supervised.clone()
        # Where one of the shifts leaves the row there is nothing to agree with.
        inner[:, -furthest:], inner[:, :1] = False, False
        total += int(inner.sum())
        for shift in hits:
            hits[shift] += int((ids.roll(-shift, dims=1) == targets)[inner].sum())
    return {shift: count / total for shift, count in hits.items()} if total else None


def predicted_ids(lesson: Lesson, model: nn.Module) -> Tensor | None:
    """The token ids that the logits stand at, of the logits' shape [rows, length]: the inputs, or the decoder's, which
    where only labels are given are those shifted by one to the right. None where the inputs do not show them.
    """
    import torch

    inputs, shape = lesson.forward.inputs, lesson.seen.targets.shape
    ids = lesson.forward.input_ids
    if is_encoder_decoder(model) or "decoder_input_ids" in inputs:
        ids, labels = inputs.get("decoder_input_ids"), inputs.get("labels")
        if ids is None and isinstance(labels, torch.Tensor) and labels.dim() == 2:
            ids = torch.cat([torch.full_like(labels[:, :1], -1), labels[:, :-1]], dim=1)
    return ids if isinstance(ids, torch.Tensor) and ids.shape == shape and ids.dim() == 2 else None


def is_encoder_decoder(model: nn.Module) -> bool:
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def is_called(model: nn.Module, parts: tuple[str, ...]) -> bool:
    """Whether the class of ``model``, or of the model in PEFT's wrapper, has one of ``parts`` in its name."""
    inner = getattr(model, "get_base_model", lambda: model)()
    return any(part in type(inner).__name__ for part in parts)
