"""How far the output of a right implementation may be from the exact one: derived, and not chosen.

With unit roundoff u, each operation returns its exact result times (1 + d), |d| <= u, so that a sum of n products is
off by at most n·u·Σ|x||w| (Higham 2002, Accuracy and Stability of Numerical Algorithms, §3.1), and by about
√n·u·Σ|x||w| since roundings are as good as independent (Higham & Mary 2019, SIAM J. Sci. Comput. 41(5), A2815). LoRA's
output W x + s·B(A x) is such a sum, over chains of at most two products, a scaling and an addition, whichever way round
it is computed, merged or not: c·u·(|W||x| + s·|B||A||x|) for each element, with a factor c that grows with √n and is
made smaller by the absolute values, of which a sum of terms with both signs fills only a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Errors of right implementations are up to 2.6 times u times the magnitude in float32 and 5.2 times in float64 for
# layers of up to 4,096 inputs, and below 1 in the half precisions, which are summed in float32.
FACTOR = 8


def unit_roundoff(dtype: torch.dtype) -> float:
    """The largest relative error of rounding to ``dtype``: half the distance from 1 to the next number."""
    import torch

    return float(torch.finfo(dtype).eps) / 2


def bound(magnitude: Tensor, dtype: torch.dtype, underflow: float = 1.0) -> Tensor:
    """How far each element may be from the exact one: the shape and units of ``magnitude``, in float64.

    ``magnitude`` is the exact computation with every number replaced by its absolute value. Products below the smallest
    normal number lose up to one subnormal step each: ``underflow`` is by how much what follows can magnify that.
    """
    import torch

    step = float(torch.finfo(dtype).smallest_normal) * float(torch.finfo(dtype).eps)
    return FACTOR * (unit_roundoff(dtype) * magnitude.double() + step * underflow)
