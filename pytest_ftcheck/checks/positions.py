"""Checks of the positions that a model is told its tokens have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.rows import real_tokens
from .check import Finding, check
from .sabotages.packing import POSITIONS_ALIKE

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# Neighbours share a position by design where a row ends and filling begins, but hardly anywhere else.
MOST_ALIKE = 0.1


@check(
    "positions-count-up",
    "data",
    "position_ids, where they are given, tell each token of a row apart from the one before it",
    controls=[POSITIONS_ALIKE],
)
def positions_count_up(evidence: Evidence) -> Iterator[Finding]:
    import torch

    pairs, alike, shown = 0, 0, ""
    for forward in evidence.trace.forwards:
        ids, positions = forward.input_ids, forward.inputs.get("position_ids")
        if ids is None or not isinstance(positions, torch.Tensor) or positions.shape[-1:] != ids.shape[-1:]:
            continue
        if positions.dim() != 2 or len(positions) not in (1, len(ids)):
            continue
        real = real_tokens(forward)
        both = real[:, 1:] & real[:, :-1]
        same = (positions[:, 1:] == positions[:, :-1]) & both
        pairs, alike = pairs + int(both.sum()), alike + int(same.sum())
        if not shown and bool(same.any()):
            row = int(same.any(dim=1).nonzero()[0]) if len(positions) > 1 else 0
            shown = f"for example: {', '.join(map(str, positions[row, :12].tolist()))}"
    if not pairs:
        raise NotApplicable("the model is called without position_ids of its tokens")
    if alike > MOST_ALIKE * pairs:
        yield Finding(
            summary=f"{alike} of {pairs} neighbouring tokens have the same position",
            cause="position_ids are zeros, made of the wrong mask, or of another batch: the model cannot tell the "
            "order of the tokens",
            remedy="leave position_ids out, or count the real tokens: attention_mask.cumsum(1) - 1",
            evidence=(shown,),
        )
