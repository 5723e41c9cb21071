"""How the factors start where they start at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from ..adapter import Adapter
from ..bases.linear import Conv1D, Linear
from ..comparison import unequal
from ..layer_case import AdaptedLayer, LayerCase
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases
from ..strategies.declared import declared

LORA = "https://arxiv.org/abs/2106.09685"
GAUSSIAN = "https://huggingface.co/docs/peft/main/en/package_reference/lora"
FLOATS = (torch.float32, torch.float64)
# Of a normal distribution, and so rarer than 1 in 500 million.
SIGMAS = 6.0


@lora_property(
    "one-factor-starts-at-zero",
    "at the start one factor is zero and the other is not, so that there is a gradient to learn from",
    formula="B = 0 and A ≠ 0, or the other way round",
    source=LORA,
    cause="both factors start at zero, which they never leave, or neither of them does",
    cases=layer_cases,
)
def one_factor_starts_at_zero(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained = subject.untrained()
    zeros = {name: int((factor == 0).sum()) for name, factor in (("A", untrained.a), ("B", untrained.b))}
    sizes = {"A": untrained.a.numel(), "B": untrained.b.numel()}
    if sorted(zeros[name] == sizes[name] for name in zeros) != [False, True]:
        told = ", ".join(f"{zeros[name]} of {sizes[name]} elements of {name}" for name in zeros)
        yield Deviation(f"{told} are 0; must be all of one and not all of the other")


@lora_property(
    "starts-at-random",
    "what is not zero at the start is random: other numbers for each rank and layer, the same for the same seed",
    formula="rows of A differ, as do the A of two layers; torch.manual_seed gives the same A again",
    source=LORA,
    cause="a constant start, a seed that is set when a layer is made, or a generator that torch's seed does not reach",
    cases=partial(layer_cases, dtypes=FLOATS),
)
def starts_at_random(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained, again = subject.untrained(), subject.untrained()
    wrong = unequal("A", again.a, untrained.a) or unequal("B", again.b, untrained.b)
    if wrong:
        yield Deviation(f"{wrong}, with the same seed")
    second = replace(subject.case, seed=subject.case.seed + 1).subject(subject.adapter).untrained()
    first, second_ = _by_rank(untrained), _by_rank(second)
    if first.numel() > 1 and torch.equal(first, second_):
        yield Deviation(f"{first.numel()} random numbers are the same for another seed")
    if first.shape[1] > 1 and len(torch.unique(first, dim=0)) < len(first):
        yield Deviation(f"of {len(first)} ranks only {len(torch.unique(first, dim=0))} start with different numbers")


def _by_rank(subject: AdaptedLayer) -> Tensor:
    """The factor that is not zero: (ranks, numbers of each)."""
    a, b = subject.a.detach(), subject.b.detach()
    rank = a.shape[-2] if subject.case.base.kind == "experts" else a.shape[0]
    return a.reshape(rank, -1) if a.any() else b.T.reshape(rank, -1)


def _wide_layers(kind: str, adapter: Adapter) -> SearchStrategy[LayerCase]:
    """With as many inputs as tell a spread from another."""
    cases = declared({"init": "gaussian"}, kind, adapter, dtypes=FLOATS, features=())
    form = {"linear": Linear, "conv1d": Conv1D}[kind]
    return cases.map(lambda case: replace(case, base=form(512, 2)))


@lora_property(
    "gaussian-start",
    "init='gaussian' draws A from a normal distribution whose spread is 1 / r",
    formula="A ~ N(0, 1 / r²)",
    source=GAUSSIAN,
    cause="a uniform distribution, or a spread that is the variance, 1 / √r or 1 / inputs",
    cases=_wide_layers,
    kinds=("linear", "conv1d"),
    features=("gaussian",),
)
def gaussian_start(subject: AdaptedLayer) -> Iterator[Deviation]:
    a = subject.untrained().a.detach().double().flatten() * subject.case.config.r
    n = a.numel()
    # With their standard errors for n numbers of a standard normal distribution: (moment, must be, error).
    moments = {
        "mean of A·r": (a.mean(), 0.0, n**-0.5),
        "mean of (A·r)²": (a.pow(2).mean(), 1.0, (2 / n) ** 0.5),
        "mean of |A·r|": (a.abs().mean(), (2 / torch.pi) ** 0.5, ((1 - 2 / torch.pi) / n) ** 0.5),
    }
    for name, (observed, exact, error) in moments.items():
        if not abs(float(observed) - exact) <= SIGMAS * error:
            yield Deviation(f"{name} is {float(observed):.4g}, must be {exact:.4g} within {SIGMAS * error:.2g}")
