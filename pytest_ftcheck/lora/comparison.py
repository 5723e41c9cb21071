"""Holding numbers to what they must be, element by element."""

from __future__ import annotations

import torch
from torch import Tensor

from .layer_case import AdaptedLayer, Exact


def off(what: str, observed: Tensor, exact: Exact) -> str | None:
    """One line about the element that is furthest beyond its bound, or None where none is. NaN always is.

    ``what`` names the tensor: ``"y"`` gives ``y[0, 2] is 1.25, must be 0.75 within 2.4e-07``.
    """
    if observed.shape != exact.value.shape:
        return f"{what} has shape {tuple(observed.shape)}, must have {tuple(exact.value.shape)}"
    error = (observed.detach().double() - exact.value).abs()
    wrong = ~(error <= exact.bound)
    if not wrong.any():
        return None
    excess = torch.where(error.isnan(), torch.inf, error / exact.bound.clamp_min(5e-324))
    worst = int(excess.where(wrong, torch.tensor(-1.0).double()).argmax())
    at = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(worst), error.shape))
    number, must, within = (float(t.flatten()[worst]) for t in (observed, exact.value, exact.bound))
    count = int(wrong.sum())
    among = f"; {count} of {wrong.numel()} elements are off" if wrong.numel() > 1 else ""
    return f"{what}[{at}] is {number:.9g}, must be {must:.9g} within {within:.2g}{among}"


def unequal(what: str, observed: Tensor, expected: Tensor) -> str | None:
    """The same for numbers that must be equal; NaN is equal to nothing, 0 and -0 are equal."""
    return off(what, observed, Exact(expected.detach().double(), torch.zeros(expected.shape, dtype=torch.float64)))


def unlike_base(what: str, observed: Tensor, subject: AdaptedLayer, x: Tensor) -> str | None:
    """The same for what must be the base's output: bit for bit, unless the implementation computes it by itself."""
    if subject.adapter.runs_the_base(subject.case.base.kind):
        return unequal(what, observed, subject.base(x))
    return off(what, observed, subject.exact(x, 0.0))
