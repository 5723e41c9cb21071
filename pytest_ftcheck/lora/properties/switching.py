"""Adapters that are switched off, added and exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from ...methods import LoRA
from ...theory.tolerance import unit_roundoff
from ..adapter import Adapter
from ..comparison import off, unequal, unlike_base
from ..layer_case import AdaptedLayer, Exact, LayerCase
from ..property import Deviation, lora_property
from ..scaling import scaling_of
from ..strategies.cases import layer_cases
from ..strategies.configs import lora_configs
from ..trained import gradient_of, parameter_of

LORA = "https://arxiv.org/abs/2106.09685"
SWITCHING = "https://huggingface.co/docs/peft/main/en/developer_guides/lora"


@lora_property(
    "disabled-is-the-base",
    "with its adapter disabled a layer is the base, bit for bit, and is adapted again afterwards",
    formula="y = W x + b while disabled",
    source=SWITCHING,
    cause="disabling forgets a part, or does not end: also not where an error has ended what was done meanwhile",
    needs=("disabled",),
    cases=layer_cases,
)
def disabled_is_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    for mode in (True, False):
        subject.wrapped.train(mode)
        with subject.adapter.disabled(subject.wrapped):
            wrong = unlike_base("y", subject(x), subject, x)
        if wrong:
            yield Deviation(f"in {'training' if mode else 'evaluation'}, {wrong}")
    try:
        with subject.adapter.disabled(subject.wrapped):
            raise InterruptedError
    except InterruptedError:
        pass
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(f"no longer disabled, {wrong}", "it stays disabled, or comes back another one")


@lora_property(
    "disabled-while-merged-is-the-base",
    "with its adapter disabled, a merged layer is the base too, within the rounding of unmerging",
    formula="y = W x + b while disabled, within 4·u·max(|W|, |W + ΔW|) of each weight",
    source=SWITCHING,
    cause="the weight stays merged",
    needs=("disabled", "merge"),
    cases=layer_cases,
)
def disabled_while_merged_is_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, form = subject.inputs(), subject.case.base
    exact, merged = subject.exact(x, 0.0), subject.exact_weight().value.abs()
    larger = torch.maximum(form.dense(form.weight(subject.base)).detach().double().abs(), merged)
    moved = form.apply(4 * unit_roundoff(subject.case.dtype) * larger, None, _size(x))
    subject.adapter.merge(subject.wrapped)
    with subject.adapter.disabled(subject.wrapped):
        wrong = off("y", subject(x), Exact(exact.value, exact.bound + moved))
    if wrong:
        yield Deviation(wrong)


def _size(x: Tensor) -> Tensor:
    return x.double().abs() if x.is_floating_point() else x


@dataclass(frozen=True)
class TwoAdapters:
    """A layer, with a second adapter for it called "second"."""

    case: LayerCase
    second: LoRA

    def subject(self, adapter: Adapter) -> TwoAdapted:
        return TwoAdapted(self, adapter)

    def __str__(self) -> str:
        return f"{self.case}, and a second LoRA(r={self.second.r}, alpha={self.second.alpha:g})"


@st.composite
def two_adapters(draw: DrawFn, kind: str, adapter: Adapter) -> TwoAdapters:
    case: LayerCase = draw(layer_cases(kind, adapter, features=("rslora",)))
    known = [feature for feature in ("rslora",) if adapter.knows(feature, kind)]
    return TwoAdapters(case, draw(lora_configs(features=known, multiple_of=case.base.groups)))


class TwoAdapted:
    """``first`` is the layer with the adapter that is there already; ``add`` puts the second one on."""

    def __init__(self, drawn: TwoAdapters, adapter: Adapter) -> None:
        self.first, self.second, self.adapter = drawn.case.subject(adapter), drawn.second, adapter

    def add(self) -> None:
        self.adapter.add(self.first.wrapped, "second", self.second)

    def activate(self, name: str) -> None:
        self.adapter.activate(self.first.wrapped, name)

    def fill(self) -> None:
        """The factors in force, with other numbers than the first's."""
        state = self.first.case.state
        replace(state, seed=state.seed + 1).fill(self.first.a, self.first.b, self.first.case.dtype)

    def wrong_output(self, x: Tensor, config: LoRA) -> str | None:
        return off("y", self.first(x), self.first.exact(x, scaling_of(config)))


@lora_property(
    "another-adapter-changes-nothing",
    "a second adapter changes nothing until it is activated",
    formula="y, A and B as before",
    source=SWITCHING,
    cause="the new adapter becomes the active one, or resets or rescales the one that is there",
    needs=("add",),
    cases=two_adapters,
)
def another_adapter_changes_nothing(subject: TwoAdapted) -> Iterator[Deviation]:
    first, x = subject.first, subject.first.inputs()
    before = first(x).detach().clone(), first.a.detach().clone(), first.b.detach().clone()
    subject.add()
    for name, observed, expected in zip(("y", "A", "B"), (first(x), first.a, first.b), before, strict=True):
        wrong = unequal(name, observed, expected)
        if wrong:
            yield Deviation(wrong)


@lora_property(
    "switching-selects",
    "the adapter that was activated is the one in force, with its own rank and scaling",
    formula="y = W x + b + s₂·B₂(A₂ x), and s₁·B₁(A₁ x) after switching back",
    source=SWITCHING,
    cause="both are added up, the first stays in force, or its scaling is used for the second",
    needs=("add", "activate"),
    cases=two_adapters,
)
def switching_selects(subject: TwoAdapted) -> Iterator[Deviation]:
    x, config = subject.first.inputs(), subject.first.case.config
    subject.add()
    subject.activate("second")
    declared = subject.first.case.base.shapes(subject.second.r)
    if (tuple(subject.first.a.shape), tuple(subject.first.b.shape)) != declared:
        yield Deviation(f"A has shape {tuple(subject.first.a.shape)} after switching, must have {declared[0]}")
    subject.fill()
    wrong = subject.wrong_output(x, subject.second)
    if wrong:
        yield Deviation(f"with the second, {wrong}")
    subject.activate("default")
    wrong = subject.wrong_output(x, config)
    if wrong:
        yield Deviation(f"with the first again, {wrong}")


@lora_property(
    "adapters-share-nothing",
    "what is written into one adapter is not in another",
    formula="A₁ and B₁ as before, after A₂ and B₂ have changed",
    source=SWITCHING,
    cause="both adapters are the same parameters, or are made from the same tensor",
    needs=("add", "activate"),
    cases=two_adapters,
)
def adapters_share_nothing(subject: TwoAdapted) -> Iterator[Deviation]:
    first = subject.first
    before = first.a.detach().clone(), first.b.detach().clone()
    subject.add()
    subject.activate("second")
    subject.fill()
    subject.activate("default")
    for name, observed, expected in zip("AB", (first.a, first.b), before, strict=True):
        wrong = unequal(name, observed, expected)
        if wrong:
            yield Deviation(f"of the first adapter, {wrong}")


@lora_property(
    "only-the-active-trains",
    "only the adapter in force is given gradients",
    formula="∂L/∂A₁ = ∂L/∂B₁ = 0 and ∂L/∂B₂ ≠ 0, while the second is active",
    source=SWITCHING,
    cause="both adapters are in the output, or activating one does not let it train",
    needs=("add", "activate"),
    cases=two_adapters,
)
def only_the_active_trains(subject: TwoAdapted) -> Iterator[Deviation]:
    first = subject.first
    idle = [parameter_of(first.wrapped, factor) for factor in (first.a, first.b)]
    subject.add()
    subject.activate("second")
    subject.fill()
    first.wrapped.train()
    output = first(first.inputs())
    if not output.requires_grad:
        yield Deviation("0 parameters of the second adapter are trained", "activating does not let it train")
        return
    output.square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in zip("AB", idle, strict=True):
        if parameter is not None and parameter.grad is not None and parameter.grad.any():
            yield Deviation(f"∂L/∂{name} of the first adapter is not 0, while the second is active")
    for name, factor in (("A", first.a), ("B", first.b)):
        gradient = gradient_of(first.wrapped, factor)
        if gradient is None:
            yield Deviation(f"∂L/∂{name} of the second adapter is missing, while it is active")
