"""Updates that the precision of the weights rounds away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.names import first_few_of
from .check import Finding, check
from .sabotages.updates import RATE_BELOW_ROUNDING

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# A matrix of which fewer than this share of the elements move does not train. Norms, whose weights are near 1, never
# move in bfloat16 at the usual rates; that alone is no finding here.
STILL = 0.1


@check(
    "updates-survive-rounding",
    "optimizer",
    "the updates of matrices in half precision are larger than the spacing of their weights",
    controls=[RATE_BELOW_ROUNDING],
    catches=["https://github.com/pytorch/torchtune/issues/2254", "https://github.com/pytorch/ao/pull/1124"],
)
def updates_survive_rounding(evidence: Evidence) -> Iterator[Finding]:
    import torch

    initial, halves = evidence.trace.initial, (torch.bfloat16, torch.float16)
    trains = [name for name, on in evidence.trace.trainable.items() if on]
    matrices = [name for name in trains if initial[name].dim() >= 2 and initial[name].dtype in halves]
    if not matrices:
        raise NotApplicable("no matrix in half precision trains")
    if max(rate for update in evidence.trace.updates for rate in update.lr) <= 0:
        raise NotApplicable("the learning rate is 0 in all updates")
    still = [name for name in matrices if _moving_share(evidence, name) < STILL]
    if len(still) > len(matrices) / 2:
        yield Finding(
            summary=f"{len(still)} of {len(matrices)} matrices in {initial[still[0]].dtype} stand still",
            cause="each update is smaller than half of the spacing of the weights (1/256 of a weight in bfloat16), "
            "and is rounded away",
            remedy="hold the weights in float32, or use an optimizer with stochastic rounding or compensated sums",
            evidence=(first_few_of(still),),
        )


def _moving_share(evidence: Evidence, name: str) -> float:
    """The share of a parameter's elements with a gradient that the training has moved; 1 where none has a gradient."""
    import torch

    updates = [update for update in evidence.trace.updates if name in update.gradients]
    if not updates or name not in evidence.standard.final:
        return 1.0
    has_gradient = torch.stack([update.gradients[name] != 0 for update in updates]).any(dim=0)
    moved = evidence.standard.final[name] != evidence.trace.initial[name]
    return float((moved & has_gradient).sum()) / int(has_gradient.sum()) if bool(has_gradient.any()) else 1.0
