"""What a training supervises, told from the gradient of its logits and from nothing that it says of itself.

The derivative of w · CE(logits, target) by the logits is w · (softmax(logits) − onehot(target)). So wherever the loss
is a cross-entropy, each position's gradient shows its target (the one negative entry) and its weight w, whatever labels,
masks, shifts and reductions brought it about. Label smoothing ε shifts the target distribution by ε/V and is told from
the rest of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.trace import ForwardPass

# How far a position's gradient may be from w · (p − q), relative to its norm. Closer than CLOSE, in float32, there is no
# smoothing; bfloat16 has 8 bits.
CLOSE, FITS = 1e-3, 0.05


@dataclass(frozen=True)
class Supervision:
    """What one forward pass was taught. ``targets`` (−1: not supervised) and ``weights`` (0: not supervised) have the
    logits' shape without the vocabulary: [rows, length], or [rows] for a classifier. ``smoothing`` is the label smoothing
    that was found (0: none). ``is_cross_entropy``: every supervised position's gradient has that form.
    """

    targets: Tensor
    weights: Tensor
    smoothing: float
    is_cross_entropy: bool

    @property
    def supervised(self) -> Tensor:
        """Which positions are supervised, as booleans."""
        return self.weights > 0

    @property
    def count(self) -> int:
        return int(self.supervised.sum())


def supervision(forward: ForwardPass) -> Supervision | None:
    """What ``forward`` was taught; None where it showed no logits, or no gradient reached them."""
    import torch

    logits, gradient = forward.logits, forward.logits_gradient
    if logits is None or gradient is None or logits.dim() < 2 or logits.shape[-1] < 2:
        return None
    size = torch.linalg.vector_norm(gradient, dim=-1)
    taught = size > 0
    p = logits.softmax(dim=-1)
    # w · (p − q) is negative only where q > p: at the target.
    targets = gradient.argmin(dim=-1)
    weights = _weights(p, gradient, targets)
    offset = torch.zeros_like(weights)
    if not _fits(p, gradient, targets, weights, offset, taught, CLOSE):
        weights, offset = _line_off_target(p, gradient, targets)
    smoothing = (offset * logits.shape[-1] / weights.clamp_min(1e-30))[taught]
    return Supervision(
        targets=targets.where(taught, torch.full_like(targets, -1)),
        weights=weights.where(taught, torch.zeros_like(weights)),
        smoothing=float(smoothing.median()) if smoothing.numel() else 0.0,
        is_cross_entropy=bool(taught.any()) and _fits(p, gradient, targets, weights, offset, taught, FITS),
    )


def _weights(p: Tensor, gradient: Tensor, targets: Tensor) -> Tensor:
    """w from the target's own gradient, w · (p − 1)."""
    at_target = targets[..., None]
    return -gradient.gather(-1, at_target)[..., 0] / (1 - p.gather(-1, at_target)[..., 0]).clamp_min(1e-12)


def _fits(
    p: Tensor, gradient: Tensor, targets: Tensor, weights: Tensor, offset: Tensor, taught: Tensor, within: float
) -> bool:
    """Whether every taught position's gradient is w·p − b off its target, and w·p − b − (w − b·V) at it."""
    import torch

    ideal = weights[..., None] * p - offset[..., None]
    ideal = ideal.scatter_add(-1, targets[..., None], -(weights - offset * p.shape[-1])[..., None])
    error, size = (torch.linalg.vector_norm(x, dim=-1)[taught] for x in (gradient - ideal, gradient))
    return bool((error <= within * size).all()) and bool((weights[taught] > 0).all())


def _line_off_target(p: Tensor, gradient: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Slope w and offset b of gradient = w·p − b, by least squares over the vocabulary without the target."""
    import torch

    off = torch.ones_like(p).scatter(-1, targets[..., None], 0.0)
    count = off.sum(-1).clamp_min(1)
    mean_p, mean_g = (p * off).sum(-1) / count, (gradient * off).sum(-1) / count
    centred = (p - mean_p[..., None]) * off
    spread = (centred * centred).sum(-1).clamp_min(1e-30)
    slope = (centred * (gradient - mean_g[..., None])).sum(-1) / spread
    return slope, slope * mean_p - mean_g
