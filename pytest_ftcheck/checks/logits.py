"""Checks of what the loss is taken of: logits as they are, once, and in the precision that they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.lessons import lessons
from ..evidence.softmax import share_softmaxed_twice
from .check import Finding, check
from .sabotages.logits import LOSS_ROUNDED, SOFTMAXED_TWICE

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

HALVES = ("torch.bfloat16", "torch.float16")
# Of the supervised positions so many must show it: others are rounded, or have no gradient to speak of.
MOST = 0.9


@check(
    "loss-is-taken-of-logits",
    "loss",
    "the cross-entropy is given logits, and not probabilities of which it takes the softmax once more",
    controls=[SOFTMAXED_TWICE],
    catches=["https://github.com/Lightning-Universe/lightning-bolts/issues/654"],
)
def loss_is_taken_of_logits(evidence: Evidence) -> Iterator[Finding]:
    shares = [share for one in lessons(evidence) if (share := share_softmaxed_twice(one.forward)) is not None]
    if not shares:
        raise NotApplicable("no gradient of logits in float32 was seen")
    twice = sum(share >= MOST for share in shares)
    if 2 * twice > len(shares):
        yield Finding(
            summary=f"softmax is taken twice in {twice} of {len(shares)} forward passes",
            cause="probabilities (softmax, or an activation after the head) are given to cross_entropy, which takes "
            "the softmax by itself: gradients are small, and the loss cannot fall to 0",
            remedy="give cross_entropy the logits; or take log_softmax once, and nll_loss",
        )


@check(
    "loss-keeps-the-precision",
    "loss",
    "a loss of logits in float32 is computed in float32",
    controls=[LOSS_ROUNDED],
)
def loss_keeps_the_precision(evidence: Evidence) -> Iterator[Finding]:
    backwards = [b for update in evidence.trace.updates for b in update.backwards]
    exact = [b for b in backwards if b.forwards and {f.precision for f in b.forwards} == {"torch.float32"}]
    if not exact:
        raise NotApplicable("no loss of logits in float32 was seen")
    rounded = [backward for backward in exact if backward.precision in HALVES]
    if rounded:
        yield Finding(
            summary=f"{len(rounded)} of {len(exact)} losses of logits in float32 are {rounded[0].precision}",
            cause="logits, or the loss, are cast to half precision before it is differentiated: 8 bits (float16: 11) "
            "are left of it and of the gradients",
            remedy="compute the loss in float32; autocast does so by itself",
        )
