"""What a training supervises, told from the gradient of its logits and from nothing that it says of itself.

The derivative of w · CE(logits, target) by the logits is w · (softmax(logits) − onehot(target)). So wherever the loss
is a cross-entropy, each position's gradient shows its target (the one negative entry) and its weight w, whatever
labels, masks, shifts and reductions brought it about. Label smoothing ε shifts the target distribution by ε/V and is
told from the rest of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.update import ForwardPass

# How far a position's gradient may be from w · (p − q), relative to its norm, for there to be no smoothing: in float32,
# and where the gradient was rounded to bfloat16 (8 bits; measured 0.3 %, and 2 % where the softmax was too).
CLOSE, CLOSE_ROUNDED = 1e-3, 0.03
# ... and for it to be a cross-entropy at all, smoothed or not.
FITS = 0.05
# A few units in the last place of a number near 1 in float32.
ROUNDING = 4 * 2**-23


@dataclass(frozen=True)
class Supervision:
    """What one forward pass was taught. All tensors have the logits' shape without the vocabulary: [rows, length], or
    [rows] for a classifier.

    ``supervised``: a gradient reached the position, whatever the loss. ``targets`` (−1: not supervised) and ``weights``
    (0: not supervised; without a gradient scaler's factor) mean something where ``is_cross_entropy``: every supervised
    position's gradient has that form. ``smoothing`` is the label smoothing that was found (0: none). ``is_rounded``:
    the gradient has bfloat16's precision, and what is told from it no more than that.
    """

    supervised: Tensor
    targets: Tensor
    weights: Tensor
    smoothing: float
    is_cross_entropy: bool
    is_rounded: bool

    @property
    def count(self) -> int:
        return int(self.supervised.sum())


def supervision(forward: ForwardPass, scale: float = 1.0) -> Supervision | None:
    """What ``forward`` was taught; None where it showed no logits, or no gradient reached them. ``scale`` is the factor
    of a gradient scaler.
    """
    import torch

    logits, gradient = forward.logits, forward.logits_gradient
    if logits is None or gradient is None or logits.dim() < 2 or logits.shape[-1] < 2:
        return None
    rounded = torch.equal(gradient, gradient.bfloat16().float())
    taught = torch.linalg.vector_norm(gradient, dim=-1) > 0
    p = logits.softmax(dim=-1)
    # w · (p − q) is negative only where q > p: at the target.
    targets = gradient.argmin(dim=-1)
    weights = _weights(p, gradient, targets)
    offset = torch.zeros_like(weights)
    fits = _fits(p, gradient, targets, weights, offset, taught, CLOSE_ROUNDED if rounded else CLOSE)
    if not fits:
        weights, offset = _line_off_target(p, gradient, targets)
        fits = _fits(p, gradient, targets, weights, offset, taught, FITS)
    smoothing = (offset * logits.shape[-1] / weights.clamp_min(1e-30))[taught]
    return Supervision(
        supervised=taught,
        targets=targets.where(taught, torch.full_like(targets, -1)),
        weights=weights.where(taught, torch.zeros_like(weights)) / scale,
        smoothing=float(smoothing.median()) if smoothing.numel() else 0.0,
        is_cross_entropy=bool(taught.any()) and fits,
        is_rounded=rounded,
    )


def _weights(p: Tensor, gradient: Tensor, targets: Tensor) -> Tensor:
    """w by least squares from gradient = w · p off the target. At the target itself, w · (p − 1), a token that is all
    but certain leaves too few digits.
    """
    import torch

    off = p.scatter(-1, targets[..., None], 0.0)
    # Divided by the largest first: the squares of a flat distribution over a large vocabulary are tiny.
    unit = off / off.amax(dim=-1, keepdim=True).clamp_min(1e-30)
    return (unit * gradient).sum(-1) / torch.clamp((unit * off).sum(-1), min=1e-30)


def _fits(
    p: Tensor, gradient: Tensor, targets: Tensor, weights: Tensor, offset: Tensor, taught: Tensor, within: float
) -> bool:
    """Whether every taught position's gradient is w·p − b off its target, and at it what makes the sum 0."""
    import torch

    off = torch.ones_like(p).scatter(-1, targets[..., None], 0.0)
    ideal = weights[..., None] * p - offset[..., None]
    error, size = (torch.linalg.vector_norm(x, dim=-1)[taught] for x in ((gradient - ideal) * off, gradient))
    # At the target w · (p − 1) is rounded where p is close to 1, and to no more than w is itself.
    slack = within * size + ROUNDING * weights[taught].abs()
    fits = (error <= within * size) & (gradient.sum(-1)[taught].abs() <= slack) & (weights[taught] > 0)
    return bool(fits.all())


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
