"""Which mistake makes the output that was seen: the usual ones are tried, until one explains the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .layer_case import AdaptedLayer


def suspect(subject: AdaptedLayer, x: Tensor, observed: Tensor) -> str:
    """The mistake whose output is within the bound of ``observed``; "" where none of them is."""
    for scaling, mistake in _scalings(subject):
        exact = subject.exact(x, scaling)
        if exact.value.shape == observed.shape and bool(((observed.double() - exact.value).abs() <= exact.bound).all()):
            return mistake
    return ""


def _scalings(subject: AdaptedLayer) -> Iterator[tuple[float, str]]:
    """Scalings that would have been right elsewhere."""
    config, s = subject.case.config, subject.scaling
    r, alpha = config.r, config.alpha
    yield 0.0, "the adapter is not in the output: inactive, or its output is not added"
    yield -s, "the update is subtracted"
    yield 2 * s, "the update is added twice: merged and still computed apart"
    yield 1.0, "the update is not scaled"
    yield s * s, "the update is scaled twice"
    yield 1 / s, "the scaling is the wrong way round: r / alpha"
    yield alpha, "the scaling is alpha, not divided by the rank"
    yield alpha / r, "the scaling is alpha / r; with rsLoRA it is alpha / √r"
    yield alpha / math.sqrt(r), "the scaling is alpha / √r without rsLoRA"
