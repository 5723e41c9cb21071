"""Breaking what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .targets import IGNORED, Targets, targets_sabotage

if TYPE_CHECKING:
    from torch import Tensor


def _own_tokens(targets: Targets) -> Tensor:
    labels = targets.labels.roll(1, dims=1)
    labels[:, 0] = IGNORED
    return labels


def _after_next(targets: Targets) -> Tensor:
    labels = targets.labels.roll(-1, dims=1)
    labels[:, -1] = IGNORED
    return labels


def _with_padding(targets: Targets) -> Tensor:
    return targets.labels.where((targets.labels != IGNORED) | targets.is_real, targets.following)


def _with_prompt(targets: Targets) -> Tensor:
    return targets.labels.where((targets.labels != IGNORED) | ~targets.is_real, targets.following)


def _without_ignored(targets: Targets) -> Tensor:
    return targets.labels.clamp_min(0)


def _without_first(targets: Targets) -> Tensor:
    is_first = (targets.labels != IGNORED).long().cumsum(dim=1) == 1
    return targets.labels.masked_fill(is_first, IGNORED)


def _without_last_row(targets: Targets) -> Tensor:
    labels = targets.labels.clone()
    if len(labels) > 1:
        labels[-1] = IGNORED
    return labels


def _one_token(targets: Targets) -> Tensor:
    return targets.labels.clamp(max=1)


LABELS_NOT_SHIFTED = targets_sabotage("labels-not-shifted", "each position is taught its own token", _own_tokens)
LABELS_SHIFTED_TWICE = targets_sabotage(
    "labels-shifted-twice", "each position is taught the token after next", _after_next
)
PADDING_LEARNED = targets_sabotage("padding-learned", "padding is in the loss", _with_padding)
PROMPT_LEARNED = targets_sabotage("prompt-learned", "the prompt is in the loss", _with_prompt)
IGNORED_LEARNED = targets_sabotage("ignored-learned", "labels of -100 became 0", _without_ignored)
FIRST_ANSWER_TOKEN_LOST = targets_sabotage(
    "first-answer-token-lost", "each answer lacks its first token", _without_first
)
ROW_WITHOUT_TARGETS = targets_sabotage("row-without-targets", "one row of each batch is masked", _without_last_row)
ONE_TARGET = targets_sabotage("one-target", "all targets are one token", _one_token)
