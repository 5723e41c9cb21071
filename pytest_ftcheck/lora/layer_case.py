"""One layer with an adapter on it, as a property meets it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..theory.tolerance import bound
from .adapter import Adapter
from .bases.base import Base
from .bases.random import seeded
from .scaling import scaling_of
from .state import AdapterState

if TYPE_CHECKING:
    from ..methods import LoRA


@dataclass(frozen=True)
class LayerCase:
    """What is drawn: a layer, an adapter for it, what its factors hold, and the shape of the input before its features.

    ``seed`` decides the weights and the inputs.
    """

    base: Base
    config: LoRA
    dtype: torch.dtype
    state: AdapterState
    rows: tuple[int, ...]
    seed: int

    def subject(self, adapter: Adapter) -> AdaptedLayer:
        return AdaptedLayer(self, adapter)

    def __str__(self) -> str:
        config = self.config
        named = {"dropout": config.dropout, "rsLoRA": config.use_rslora, "DoRA": config.use_dora}
        others = [f"{name}={value}" for name, value in named.items() if value]
        others += [f"init={config.init!r}"] if config.init is not True else []
        declared = ", ".join([f"r={config.r}", f"alpha={config.alpha:g}", *others])
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.base}, LoRA({declared}), {dtype}, {self.state}, {self.rows} inputs, seed {self.seed}"


class Exact(NamedTuple):
    """What should come out, in float64, and how far off each element of it may be."""

    value: Tensor
    bound: Tensor


class AdaptedLayer:
    """A layer of a case with an adapter of the implementation under test, in evaluation mode, its factors filled.

    ``base`` is the same layer without an adapter. ``a`` and ``b`` are the factors in force.
    """

    def __init__(self, case: LayerCase, adapter: Adapter, *, fill: bool = True) -> None:
        self.case, self.adapter = case, adapter
        self.base = case.base.build(case.dtype, case.seed)
        # The same start each time, since hypothesis tries a failing case again; not the numbers of the weights.
        with warnings.catch_warnings(), seeded(case.seed + 2**20):
            # Of a layer that is no model, and of other things that are as intended here.
            warnings.simplefilter("ignore")
            self.wrapped = adapter.wrap(case.base.build(case.dtype, case.seed), case.config).eval()
        (self.layer,) = adapter.layers(self.wrapped).values()
        if fill:
            case.state.fill(self.a, self.b, case.dtype)

    def untrained(self) -> AdaptedLayer:
        """The same anew, its factors as the implementation makes them."""
        return AdaptedLayer(self.case, self.adapter, fill=False)

    @property
    def a(self) -> Tensor:
        return self.adapter.factors(self.layer)[0]

    @property
    def b(self) -> Tensor:
        return self.adapter.factors(self.layer)[1]

    @property
    def scaling(self) -> float:
        """What the declaration means, whatever the implementation has."""
        return scaling_of(self.case.config)

    def inputs(self, number: int = 0) -> Tensor:
        """The case's input; other ones of the same shape for other numbers."""
        return self.case.base.inputs(self.case.rows, self.case.dtype, self.case.seed + 1 + number)

    def __call__(self, x: Tensor) -> Tensor:
        """What the implementation makes of ``x``."""
        return self.adapter.forward(self.wrapped, x)

    def exact(self, x: Tensor, scaling: float | None = None) -> Exact:
        """W x + s·B(A x), with the factors as they are now. ``scaling`` where it is not the declared one."""
        form, s = self.case.base, self.scaling if scaling is None else scaling
        weight, bias = form.dense(form.weight(self.base)).double(), form.bias(self.base)
        bias = None if bias is None else bias.double()
        a, b = self.a.detach().double(), self.b.detach().double()
        x = x.double() if x.is_floating_point() else x
        value = form.apply(weight + s * form.delta(a, b), bias, x)
        sizes = weight.abs() + abs(s) * form.delta(a.abs(), b.abs())
        magnitude = form.apply(sizes, None if bias is None else bias.abs(), x.abs())
        return Exact(value.detach(), bound(magnitude.detach(), self.case.dtype, self._underflow(s)))

    def exact_delta(self) -> Exact:
        """s·B A in the orientation of the dense weight."""
        form, s = self.case.base, self.scaling
        a, b = self.a.detach().double(), self.b.detach().double()
        sizes = abs(s) * form.delta(a.abs(), b.abs())
        return Exact(s * form.delta(a, b), bound(sizes, self.case.dtype, self._underflow(s)))

    def exact_weight(self) -> Exact:
        """W + s·B A in the orientation of the dense weight."""
        form, delta = self.case.base, self.exact_delta()
        weight = form.dense(form.weight(self.base)).detach().double()
        return Exact(weight + delta.value, bound(weight.abs(), self.case.dtype) + delta.bound)

    def exact_gradients(self, x: Tensor, upstream: Tensor) -> dict[str, Exact]:
        """Of Σ upstream · y in A, in B and, where it is numbers, in x: ∂L/∂A = s·Bᵀ ∂L/∂y xᵀ, ∂L/∂B = s·∂L/∂y (A x)ᵀ,
        ∂L/∂x = (W + s·B A)ᵀ ∂L/∂y, and what this is for layers that are no matrices.
        """
        form, s, dtype = self.case.base, self.scaling, self.case.dtype
        weight = form.dense(form.weight(self.base)).detach().double()
        numbers = [self.a.detach().double(), self.b.detach().double()]
        numbers += [x.detach().double()] if x.is_floating_point() else []

        def gradients(base: Tensor, scaling: float, at: list[Tensor], direction: Tensor) -> tuple[Tensor, ...]:
            a, b, *inputs = leaves = [one.requires_grad_() for one in at]
            output = form.apply(base + scaling * form.delta(a, b), None, inputs[0] if inputs else x)
            return torch.autograd.grad(output, leaves, direction)

        values = gradients(weight, s, [one.clone() for one in numbers], upstream.double())
        sizes = gradients(weight.abs(), abs(s), [one.abs() for one in numbers], upstream.double().abs())
        bounds = (bound(size, dtype, self._underflow(s)) for size in sizes)
        return dict(zip(("A", "B", "x"), map(Exact, values, bounds), strict=False))

    def _underflow(self, s: float) -> float:
        """By how much a lost subnormal step can be magnified: it is lost in as many products as there are, before B."""
        return float(self.a[0].numel() + abs(s) * self.b.abs().max() * self.case.config.r * self.a[0].numel() + abs(s))
