"""What a language model predicts must not be in its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.alone import SAME, later_token_changes
from ..evidence.lessons import MOST, agreement_by_shift, left_to_right
from .check import Finding, check
from .sabotages.packing import FUTURE_SEEN

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence


@check(
    "later-tokens-are-not-seen",
    "loss",
    "the logits at a supervised position do not depend on the tokens after it",
    controls=[FUTURE_SEEN],
    catches=[
        "https://github.com/huggingface/transformers/issues/48745",
        "https://github.com/huggingface/transformers/issues/48748",
    ],
    cost="model",
)
def later_tokens_are_not_seen(evidence: Evidence) -> Iterator[Finding]:
    wanted = _last_supervised(evidence)
    found = later_token_changes(evidence, wanted, evidence.inputs())
    wrong = [one for one in found if not one.difference <= SAME]
    if wrong:
        yield Finding(
            summary=f"in {len(wrong)} of {len(found)} rows the logits before a token change with it: by "
            f"{max(one.difference for one in wrong):.2g} of the largest",
            cause="attention is not causal (no mask, is_causal=False, or an encoder that is trained as a decoder), so "
            "that the token to be predicted is seen: the loss falls, and generation does not improve",
            remedy="mask what comes later: is_causal=True, config.is_decoder=True, or a mask that is causal besides "
            "hiding padding",
        )


def _last_supervised(evidence: Evidence) -> list[tuple[int, int, list[int]]]:
    """For each row of the first batch its last supervised position, and those before it. NotApplicable where next
    tokens are not what is taught.
    """
    usable = left_to_right(evidence)
    if agreement_by_shift(usable, evidence.trace.model)[1] < MOST:
        raise NotApplicable("the targets are not the tokens that follow")
    first = next((one for one in usable if one.forward is evidence.trace.forwards[0]), None)
    if first is None:
        raise NotApplicable("the first batch is not taught next tokens")
    places = [row.nonzero()[:, 0].tolist() for row in first.seen.supervised]
    wanted = [(row, at[-1], at[:-1]) for row, at in enumerate(places) if len(at) > 1]
    if not wanted:
        raise NotApplicable("no row of the first batch has two supervised positions")
    return wanted
