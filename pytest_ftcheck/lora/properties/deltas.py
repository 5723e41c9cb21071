"""ΔW as the implementation says that it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ..comparison import off
from ..layer_case import AdaptedLayer
from ..property import Deviation, lora_property
from ..state import CONTENTS
from ..strategies.cases import layer_cases

LORA = "https://arxiv.org/abs/2106.09685"


@lora_property(
    "delta-is-the-scaled-product",
    "ΔW is the scaled product of the factors, in the orientation of the weight",
    formula="ΔW = s·B A",
    source=LORA,
    cause="the product is not scaled, or lies the other way round than the weight",
    needs=("delta",),
    cases=partial(layer_cases, contents=CONTENTS),
)
def delta_is_the_scaled_product(subject: AdaptedLayer) -> Iterator[Deviation]:
    delta = subject.adapter.delta(subject.layer)
    wrong = off("ΔW", subject.case.base.dense(delta), subject.exact_delta())
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "delta-has-at-most-the-rank",
    "ΔW has at most the declared rank",
    formula="rank(ΔW) ≤ r: all singular values but the first r are 0, within rounding",
    source=LORA,
    cause="a rank that is not the declared one, or ΔW that is not a product of the factors",
    needs=("delta",),
    kinds=("linear", "conv1d", "embedding", "experts"),
    cases=partial(layer_cases, most=3),
)
def delta_has_at_most_the_rank(subject: AdaptedLayer) -> Iterator[Deviation]:
    rank = subject.case.config.r
    singular = torch.linalg.svdvals(subject.adapter.delta(subject.layer).detach().double())
    # A singular value moves by at most the size of what the matrix is off by (Weyl 1912).
    allowed = torch.linalg.matrix_norm(subject.exact_delta().bound)
    beyond = singular[..., rank:].flatten()
    if len(beyond) and not bool((singular[..., rank:] <= allowed[..., None]).all()):
        yield Deviation(f"singular value {rank + 1} is {float(beyond.max()):.4g}, must be 0 within {allowed.max():.2g}")


@lora_property(
    "delta-changes-nothing",
    "to ask for ΔW changes neither the factors nor the weight",
    formula="A, B and W as before",
    source=LORA,
    cause="an operation in place on a factor or on the weight",
    needs=("delta", "weight"),
    cases=layer_cases,
)
def delta_changes_nothing(subject: AdaptedLayer) -> Iterator[Deviation]:
    before = _numbers(subject)
    subject.adapter.delta(subject.layer)
    for name, after in _numbers(subject).items():
        if not torch.equal(before[name], after):
            changed = int((before[name] != after).sum())
            yield Deviation(f"{changed} numbers of {name} have changed, must be as before")


def _numbers(subject: AdaptedLayer) -> dict[str, Tensor]:
    shown = {"W": subject.adapter.weight(subject.layer), "A": subject.a, "B": subject.b}
    return {name: one.detach().clone() for name, one in shown.items()}
