"""DoRA's weight decomposition (Liu et al. 2024, arXiv 2402.09353, §4), worked out in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import NotApplicable
from ..theory.tolerance import bound
from .layer_case import AdaptedLayer, Exact

# Which dimension of the dense weight is the outputs'. Each of them has one magnitude, whatever the orientation.
OUTPUTS = {"linear": 0, "conv1d": 1, "embedding": 1, "convolution": 0}


class Gradients(NamedTuple):
    """Of a loss in the factors and in the magnitude, each in the shape of its own."""

    a: Tensor
    b: Tensor
    magnitude: Tensor


class Decomposition:
    """The weight of a layer as DoRA has it: m · V / ‖V‖ with V = W + s·B A, the lengths ‖V‖ over the inputs of each
    output. With the factors and m as they are now.

    ``magnitude``, ``length`` and ``relative``, by which a length that is worked out in the layer's precision may be off
    as a part of itself, are (outputs,). Raises NotApplicable where rounding leaves nothing of a length.
    """

    def __init__(self, subject: AdaptedLayer) -> None:
        self.subject, self.form = subject, subject.case.base
        self.updated = subject.exact_weight()
        self.length = self.over_inputs(self.updated.value)
        inputs = self.updated.value.numel() / len(self.length)
        # Of the elements, and of the sum of their squares.
        squares = bound(self.length**2, subject.case.dtype, inputs) / self.length
        part = (self.over_inputs(self.updated.bound) + squares) / self.length
        if not (part < 1).all() or not (self.length**2 < torch.finfo(subject.case.dtype).max).all():
            raise NotApplicable("the weights of an output are so short or so long that rounding leaves no direction")
        self.relative = part / (1 - part)
        self.magnitude = subject.adapter.magnitude(subject.layer).detach().double().flatten()

    @property
    def ratio(self) -> Tensor:
        """m / ‖V‖ for each output."""
        return self.magnitude / self.length

    @property
    def start(self) -> Exact:
        """What m is at first, which leaves the weight as it is: ‖V‖."""
        return Exact(self.length, self.relative * self.length)

    def over_inputs(self, weight: Tensor) -> Tensor:
        """The length of each output's part of a dense weight: (outputs,)."""
        lengths: Tensor = torch.linalg.vector_norm(weight.movedim(self._outputs, 0).flatten(1), dim=1)
        return lengths

    def scaled(self, weight: Tensor, by: Tensor) -> Tensor:
        """Each output's part of a dense weight times its own of ``by``: (outputs,)."""
        return (weight.movedim(self._outputs, -1) * by).movedim(-1, self._outputs)

    def weight(self) -> Exact:
        """m · V / ‖V‖, in the orientation of the dense weight."""
        value = self.scaled(self.updated.value, self.ratio)
        return Exact(value, self.scaled(self.updated.bound, self.ratio.abs()) + self.scaled(value.abs(), self.relative))

    def unmerged(self) -> Exact:
        """W, after it was merged and taken out again: m / ‖V‖ is divided out, and ΔW subtracted."""
        base, merged = self.form.dense(self.form.weight(self.subject.base)).detach().double(), self.weight()
        # The sum and the difference each round once more; what is lost in subnormal numbers is divided by the ratio.
        rounded = self.scaled(bound(merged.value.abs(), self.subject.case.dtype), 1 / self.ratio.abs())
        return Exact(base, 2 * self.updated.bound + 2 * rounded)

    def output(self, x: Tensor) -> Exact:
        """What comes out: m · V x / ‖V‖ + b."""
        form, bias = self.form, self._bias()
        weight, x_ = self.weight().value, x.double() if x.is_floating_point() else x
        # It may be worked out from the base's output: y + (m / ‖V‖ - 1)(y - b) + ...
        passes = 1 + (self.ratio - 1).abs().max()
        direction = form.apply(self.scaled(weight.abs(), self.relative), None, x_.abs())
        return Exact(form.apply(weight, bias, x_), passes * self.subject.exact(x).bound + direction)

    def gradients(self, x: Tensor, upstream: Tensor, *, constant: bool) -> Gradients:
        """Of Σ upstream · output; ``constant``: ‖V‖ is held constant, as the paper advises to (§4.3)."""
        form, x = self.form, x.double() if x.is_floating_point() else x
        a, b = (factor.detach().double().requires_grad_() for factor in (self.subject.a, self.subject.b))
        m = self.magnitude.clone().requires_grad_()
        base = form.dense(form.weight(self.subject.base)).detach().double()
        updated = base + self.subject.scaling * form.delta(a, b)
        length = self.over_inputs(updated)
        weight = self.scaled(updated, m / (length.detach() if constant else length))
        return Gradients(*torch.autograd.grad(form.apply(weight, None, x), (a, b, m), upstream.double()))

    def gradient_bounds(self, x: Tensor, upstream: Tensor) -> Gradients:
        """How far off each of these may be, ‖V‖ held constant or not."""
        form, s, dtype = self.form, abs(self.subject.scaling), self.subject.case.dtype
        x, upstream = x.double().abs() if x.is_floating_point() else x, upstream.double().abs()
        a, b = (factor.detach().double().abs().requires_grad_() for factor in (self.subject.a, self.subject.b))
        weight, bias = self.updated.value.abs().requires_grad_(), self._bias().abs().requires_grad_()
        # An embedding has no bias to be given a gradient.
        steep, all_rows = torch.autograd.grad(
            form.apply(weight, bias, x), (weight, bias), upstream, materialize_grads=True
        )
        # What the length takes away is at most as long as the gradient of an output, and has the length in it thrice.
        worst = 4 * self.relative * self.over_inputs(steep)
        along = self.scaled(torch.ones_like(steep), worst * self.ratio.abs())
        of_a, of_b = torch.autograd.grad(s * form.delta(a, b), (a, b), along)
        # The bias may be in the output that m's gradient is worked out from.
        return Gradients(of_a, of_b, worst + bound(all_rows * bias.detach(), dtype) / self.length)

    def _bias(self) -> Tensor:
        """The bias, of zeros where there is none."""
        bias = self.form.bias(self.subject.base)
        return torch.zeros_like(self.length) if bias is None else bias.detach().double()

    @property
    def _outputs(self) -> int:
        return OUTPUTS[self.form.kind]
