"""Which mistake makes the output that was seen: the usual ones are tried, until one explains the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from .layer_case import AdaptedLayer
from .state import AdapterState

# With these every scaling that is tried is another one. The smallest failing case often has a rank of 1, at which most
# of them are alike.
TELLING_RANK, TELLING_RATIO = 6, 2.5


def suspect(subject: AdaptedLayer) -> str:
    """The mistake that explains what the implementation makes of a case like this one; "" where none does."""
    rank = TELLING_RANK * subject.case.base.groups
    config = replace(subject.case.config, r=rank, alpha=TELLING_RATIO * rank)
    state = AdapterState(seed=subject.case.state.seed)
    telling = replace(subject.case, config=config, dtype=torch.float32, state=state).subject(subject.adapter)
    x = telling.inputs()
    observed = telling(x).detach().double()
    for scaling, mistake in _scalings(telling):
        exact = telling.exact(x, scaling)
        if exact.value.shape == observed.shape and bool(((observed - exact.value).abs() <= exact.bound).all()):
            return mistake
    return ""


def _scalings(subject: AdaptedLayer) -> Iterator[tuple[float, str]]:
    """Scalings that would have been right elsewhere."""
    s, r, alpha = subject.scaling, subject.case.config.r, subject.case.config.alpha
    yield 0.0, "the adapter is not in the output: inactive, or its output is not added"
    yield -s, "the update is subtracted"
    yield 2 * s, "the update is added twice: merged and still computed apart"
    yield 1.0, "the update is not scaled"
    yield s * s, "the update is scaled twice"
    yield 1 / s, "the scaling is the wrong way round: r / alpha"
    yield alpha, "the scaling is alpha, not divided by the rank"
    yield alpha // r, "the scaling is a whole number: alpha // r"
    yield alpha / (r + 1), "the rank in the scaling is one more than declared"
    yield alpha / r, "the scaling is alpha / r; with rsLoRA it is alpha / √r"
    yield alpha / math.sqrt(r), "the scaling is alpha / √r without rsLoRA"
