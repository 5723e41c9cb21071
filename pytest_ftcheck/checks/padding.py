"""Padding must not matter to the rows beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.alone import SAME, compared
from ..evidence.rows import real_tokens
from .check import Finding, check
from .sabotages.packing import PADDED_LEFT_UNMASKED

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence.evidence import Evidence


@check(
    "padding-does-not-matter",
    "loss",
    "the logits of a row are those of the row alone, however much padding its batch puts around it",
    controls=[PADDED_LEFT_UNMASKED],
    catches=["https://github.com/unslothai/unsloth/pull/9848"],
    cost="model",
)
def padding_does_not_matter(evidence: Evidence) -> Iterator[Finding]:
    inputs, real = _padded_batch(evidence)
    if has_restarts(inputs.get("position_ids"), real):
        raise NotApplicable("the batch is packed")
    rows = [row for row in range(len(real)) if not bool(real[row].all()) and bool(real[row].any())]
    wanted = [(row, real[row].nonzero()[:, 0].tolist()) for row in rows]
    found = compared(evidence, wanted, inputs)
    wrong = [one for one in found if not one.difference <= SAME]
    if not wrong:
        return
    left = not bool(real[wrong[0].row, 0])
    attended = inputs.get("attention_mask") is None or bool((inputs["attention_mask"] != 0).all())
    cause, remedy = _cause(left, attended)
    worst = max(one.difference for one in wrong)
    yield Finding(
        summary=f"{len(wrong)} of {len(found)} padded rows have other logits alone than in their batch: by {worst:.2g} "
        "of the largest",
        cause=cause,
        remedy=remedy,
    )


def _cause(left: bool, attended: bool) -> tuple[str, str]:
    if attended:
        return (
            "padding is attended to: the attention mask is missing, or all ones",
            "pass the batch's attention_mask on",
        )
    if left:
        return (
            "rows are padded on the left, and their positions count the padding",
            "pad on the right in training, or pass position_ids that start at each row's first real token",
        )
    return (
        "something in the model mixes the positions of a row regardless of the mask",
        "mask the padding there as well",
    )


def _padded_batch(evidence: Evidence) -> tuple[dict[str, Any], Tensor]:
    """The inputs of the first training batch, and which of its tokens are real. NotApplicable where none is padded."""
    inputs = evidence.inputs()
    forward = evidence.trace.forwards[0]
    ids = forward.input_ids
    if ids is None or ids.dim() != 2 or "input_ids" not in inputs:
        raise NotApplicable("the model's inputs show no tokens by name")
    pad = getattr(getattr(evidence.trace.model, "config", None), "pad_token_id", None)
    real = real_tokens(forward, pad if isinstance(pad, int) else None)
    if bool(real.all()):
        raise NotApplicable("the first batch has no padding")
    return inputs, real


def has_restarts(position_ids: Any, real: Tensor) -> bool:
    """Whether positions start again within a row."""
    import torch

    if not isinstance(position_ids, torch.Tensor) or position_ids.shape != real.shape:
        return False
    return bool(((position_ids[:, 1:] <= position_ids[:, :-1]) & real[:, 1:] & real[:, :-1]).any())
