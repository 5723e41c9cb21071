"""Without dropout, the update is linear in each factor and in the input. No reference is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ..bases.random import normal
from ..comparison import off, unlike_base
from ..layer_case import AdaptedLayer, Exact
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases

LORA = "https://arxiv.org/abs/2106.09685"
# A lookup is not a function of numbers.
OF_NUMBERS = ("linear", "conv1d", "convolution", "experts")
PRECISE = partial(layer_cases, dtypes=(torch.float32, torch.float64))


def _additive(subject: AdaptedLayer, name: str) -> Iterator[Deviation]:
    """y(F1 + F2) - y(F1) - y(F2) + y(0) = 0 for a factor F."""
    x = subject.inputs()
    factor: Tensor = getattr(subject, name)
    first = factor.detach().clone()
    second = normal(tuple(first.shape), first.dtype, subject.case.seed + 2)
    total, allowed = torch.zeros(()), torch.zeros(())
    for sign, content in ((1, first + second), (-1, first), (-1, second), (1, torch.zeros_like(first))):
        with torch.no_grad():
            factor.copy_(content)
        total = total + sign * subject(x).detach().double()
        allowed = allowed + subject.exact(x).bound
    f = name.upper()
    wrong = off(f"y({f}1 + {f}2) - y({f}1) - y({f}2) + y(0)", total, _zero(allowed))
    if wrong:
        yield Deviation(wrong)


def _zero(allowed: Tensor) -> Exact:
    return Exact(torch.zeros_like(allowed), allowed)


@lora_property(
    "linear-in-a",
    "the update is linear in A",
    formula="B(A1 + A2) x = B A1 x + B A2 x",
    source=LORA,
    cause="something that is not linear acts on A or on A x: a normalisation, a clamp, an activation",
    cases=PRECISE,
)
def linear_in_a(subject: AdaptedLayer) -> Iterator[Deviation]:
    yield from _additive(subject, "a")


@lora_property(
    "linear-in-b",
    "the update is linear in B",
    formula="(B1 + B2) A x = B1 A x + B2 A x",
    source=LORA,
    cause="something that is not linear acts on B or on the update",
    cases=PRECISE,
)
def linear_in_b(subject: AdaptedLayer) -> Iterator[Deviation]:
    yield from _additive(subject, "b")


@lora_property(
    "linear-in-the-input",
    "but for the bias, the output is linear in the input, which at zero gives the bias",
    formula="y(x1 + x2) + y(0) = y(x1) + y(x2), and y(0) = b",
    source=LORA,
    cause="something that is not linear acts on the input of A, or rows of a batch are mixed",
    kinds=OF_NUMBERS,
    cases=PRECISE,
)
def linear_in_the_input(subject: AdaptedLayer) -> Iterator[Deviation]:
    first, second = subject.inputs(1), subject.inputs(2)
    total, allowed = torch.zeros(()), torch.zeros(())
    for sign, x in ((1, first + second), (1, torch.zeros_like(first)), (-1, first), (-1, second)):
        total = total + sign * subject(x).detach().double()
        allowed = allowed + subject.exact(x).bound
    nothing = torch.zeros_like(first)
    wrong = off("y(x1 + x2) + y(0) - y(x1) - y(x2)", total, _zero(allowed))
    wrong = wrong or unlike_base("y(0)", subject(nothing), subject, nothing)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "ranks-can-be-permuted",
    "the order of the ranks means nothing",
    formula="B P Pᵀ A = B A for every permutation P",
    source=LORA,
    cause="some ranks are left out or weigh more than others",
    cases=layer_cases,
)
def ranks_can_be_permuted(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, a, b = subject.inputs(), subject.a, subject.b
    before, allowed = subject(x).detach().double(), subject.exact(x).bound
    stacked = int(subject.case.base.kind == "experts")
    shares = a.shape[stacked] // b.shape[stacked + 1]
    with torch.no_grad():
        # Each group of a convolution has its own share of the ranks.
        turned = a.reshape(*a.shape[:stacked], shares, -1, *a.shape[stacked + 1 :]).flip(stacked + 1).reshape(a.shape)
        a.copy_(turned.clone())
        b.copy_(b.flip(stacked + 1).clone())
    wrong = off("y", subject(x), Exact(before, 2 * allowed))
    if wrong:
        yield Deviation(f"with the ranks in reverse order, {wrong}")


@lora_property(
    "factors-share-their-size",
    "what A is divided by, B can be multiplied by",
    formula="(B c)(A / c) = B A",
    source=LORA,
    cause="a constant is added to a factor, or one of them is normalised, rounded or clamped",
    cases=layer_cases,
)
def factors_share_their_size(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    before, allowed = subject(x).detach().double(), subject.exact(x).bound
    with torch.no_grad():
        # A power of two, which rounds nothing.
        subject.a.mul_(0.25)
        subject.b.mul_(4.0)
    wrong = off("y", subject(x), Exact(before, 2 * allowed))
    if wrong:
        yield Deviation(f"with A / 4 and 4 B, {wrong}")
