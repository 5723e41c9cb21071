"""Whether a loss was taken of probabilities as if they were logits, told from the gradient that came back.

With p = softmax(logits) and r = softmax(p) - onehot(target), the derivative of CE(p, target) by the logits is
p * (r - <p, r>), times the position's weight. That of CE(logits, target) is p - onehot(target).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.update import ForwardPass

# The right one of the two forms fits to 3e-8 of the gradient's norm in float32, the other one to 1.5e-4 where a model
# of 64 tokens has learned nothing, and worse the surer it is (measured).
FITS, MISSES, TIMES = 1e-3, 2e-5, 10.0


def share_softmaxed_twice(forward: ForwardPass) -> float | None:
    """Of the supervised positions the share whose gradient is that of a second softmax, and not that of one. None where
    there is no gradient, or one rounded to bfloat16.
    """
    import torch

    logits, gradient = forward.logits, forward.logits_gradient
    if logits is None or gradient is None or logits.dim() < 2 or logits.shape[-1] < 3:
        return None
    taught = torch.linalg.vector_norm(gradient, dim=-1) > 0
    if not bool(taught.any()) or torch.equal(gradient, gradient.bfloat16().float()):
        return None
    logits, gradient = logits[taught].double(), gradient[taught].double()
    p = logits.softmax(dim=-1)
    target = torch.nn.functional.one_hot(gradient.argmin(dim=-1), p.shape[-1]).double()
    r = p.softmax(dim=-1) - target
    twice, once = p * (r - (p * r).sum(-1, keepdim=True)), p - target
    other, usual = _misfit(gradient, twice), _misfit(gradient, once)
    return float(((other <= FITS) & (usual >= MISSES) & (usual >= TIMES * other)).double().mean())


def _misfit(gradient: Tensor, form: Tensor) -> Tensor:
    """How far each gradient [positions, vocabulary] is from the nearest multiple of ``form``, relative to its norm."""
    import torch

    weight = (gradient * form).sum(-1, keepdim=True) / (form * form).sum(-1, keepdim=True).clamp_min(1e-300)
    left = torch.linalg.vector_norm(gradient - weight * form, dim=-1)
    misfit: Tensor = left / torch.linalg.vector_norm(gradient, dim=-1)
    return misfit
