"""LoKr (LyCORIS, Yeh et al. 2023, arXiv 2309.14859): ΔW = W₁ ⊗ W₂, a Kronecker product.

d_out = a · b and d_in = c · d are split in two (``decompose_factor``), so that W₁ is a × c and W₂ is b × d × K, with K
the kernel of a convolution (of which C_in / groups inputs are split). Each is a matrix of its own, or, where the rank
is below half its longer side, two factors: W₂ of r (b + d K) parameters, or r (b + d) + r² K with
``use_effective_conv2d`` and K > 1; W₁ of r (a + c), only with ``decompose_both``. Dropout of ranks and modules changes
no count.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..growth import Growth, piece_at, summed
from ..targets import from_pattern
from .adapter import Adapter, on_each

if TYPE_CHECKING:
    from torch import nn

    from ..layers import Layer

KINDS = ("Linear", "Conv1d", "Conv2d")


def lokr(model: nn.Module, config: Any) -> dict[str, Adapter]:
    """Module name -> adapter of a ``peft.LoKrConfig``."""

    def adapter(name: str, layer: Layer) -> Adapter:
        rank = from_pattern(config.rank_pattern or {}, name, config.r)
        return Adapter(f"LoKr r={rank} on {layer}", rank, _growth(layer, config))

    return on_each(model, config, KINDS, adapter)


def _growth(layer: Layer, config: Any) -> tuple[Growth, ...]:
    """One piece for each combination of whole matrices and factors that some rank gives."""
    kernel = layer.kernel
    a, b = split(layer.outputs, config.decompose_factor)
    c, d = split(layer.channels // layer.groups, config.decompose_factor)
    factors = Growth(linear=b + d * kernel)
    if config.use_effective_conv2d and kernel > 1:
        factors = Growth(linear=b + d, quadratic=kernel)
    left = _matrix(Growth(a * c), Growth(linear=a + c) if config.decompose_both else None, max(a, c))
    right = _matrix(Growth(b * d * kernel), factors, max(b, d))
    starts = sorted({piece.start for piece in (*left, *right)})
    return tuple(replace(summed([piece_at(left, start), piece_at(right, start)]), start=start) for start in starts)


def _matrix(whole: Growth, factors: Growth | None, longer: int) -> tuple[Growth, ...]:
    """Two factors while the rank is less than half the ``longer`` side, from there on the ``whole`` matrix."""
    return (whole,) if factors is None else (factors, replace(whole, start=math.ceil(longer / 2)))


def split(dimension: int, factor: int) -> tuple[int, int]:
    """The two numbers whose product ``dimension`` is split into.

    The first is ``factor`` where that divides it, and else its greatest divisor that is neither above the square root
    nor above ``factor`` (-1: no such limit).
    """
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    limit = math.isqrt(dimension) if factor == -1 else min(math.isqrt(dimension), factor)
    divisors = (first for first in range(limit, 0, -1) if dimension % first == 0)
    first = next(itertools.chain(divisors, [1]))
    return first, dimension // first
