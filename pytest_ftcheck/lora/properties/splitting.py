"""Initialisations that split the weight: the factors take a part of it, and the base keeps the rest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ...theory.tolerance import bound
from ..comparison import off
from ..layer_case import AdaptedLayer, Exact
from ..property import Cases, Deviation, lora_property
from ..strategies.declared import declared

PISSA = "https://arxiv.org/abs/2404.02948"
OLORA = "https://arxiv.org/abs/2406.01775"
# Both are about matrices; neither has to know float64, in which few train (peft 0.21.2 does not).
KINDS = ("linear", "conv1d")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _starting(init: str) -> Cases:
    return partial(declared, {"init": init}, dtypes=DTYPES, features=("rslora",))


@lora_property(
    "pissa-splits-the-weight",
    "PiSSA's factors and what is left in the base make up the weight",
    formula="W_res + s·B A = W, and B A ≠ 0",
    source=PISSA,
    cause="the residual is made without the scaling, or in the wrong orientation, or the base keeps all of its weight",
    cases=_starting("pissa"),
    needs=("weight",),
    kinds=KINDS,
    features=("pissa",),
)
@lora_property(
    "olora-splits-the-weight",
    "OLoRA's factors and what is left in the base make up the weight",
    formula="W_res + s·B A = W, and B A ≠ 0",
    source=OLORA,
    cause="the residual is made without the scaling, or in the wrong orientation, or the base keeps all of its weight",
    cases=_starting("olora"),
    needs=("weight",),
    kinds=KINDS,
    features=("olora",),
)
def splits_the_weight(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained, form = subject.untrained(), subject.case.base
    part = untrained.exact_delta()
    if not part.value.any():
        yield Deviation("s·B A is 0, must be a part of the weight", "it starts like any other LoRA")
    weight = form.dense(form.weight(subject.base)).detach().double()
    residual = form.dense(untrained.adapter.weight(untrained.layer)).detach().double()
    wrong = off(
        "(W_res + s·B A)", residual + part.value, Exact(weight, part.bound + bound(weight.abs(), subject.case.dtype))
    )
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "pissa-starts-as-the-base",
    "before it is trained, a layer with PiSSA computes what the base computes",
    formula="y = W_res x + s·B(A x) + b = W x + b at the start",
    source=PISSA,
    cause="the base keeps all of its weight, or the factors are of the weight in another orientation",
    cases=_starting("pissa"),
    kinds=KINDS,
    features=("pissa",),
)
@lora_property(
    "olora-starts-as-the-base",
    "before it is trained, a layer with OLoRA computes what the base computes",
    formula="y = W_res x + s·B(A x) + b = W x + b at the start",
    source=OLORA,
    cause="the base keeps all of its weight, or the factors are of the weight in another orientation",
    cases=_starting("olora"),
    kinds=KINDS,
    features=("olora",),
)
def starts_split_as_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, untrained = subject.inputs(), subject.untrained()
    # What is left is at most as large as the weight and the part that was taken, and was rounded before.
    exact = Exact(subject.exact(x, 0.0).value, 3 * untrained.exact(x).bound)
    wrong = off("y", untrained(x), exact)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "pissa-takes-the-principal-part",
    "PiSSA's factors are the principal singular vectors, with the roots of the singular values in each",
    formula="‖W - s·B A‖² = Σ σᵢ² over i > r, the least that there is (Eckart and Young 1936), and A Aᵀ = Bᵀ B",
    source=PISSA,
    cause="the smallest singular values are taken, or those of another matrix, or one factor has all of their size",
    cases=_starting("pissa"),
    kinds=KINDS,
    features=("pissa",),
)
def pissa_takes_the_principal_part(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained, form, dtype = subject.untrained(), subject.case.base, subject.case.dtype
    weight = form.dense(form.weight(subject.base)).detach().double()
    singular = torch.linalg.svdvals(weight)
    # An SVD is backward stable: what it gives is exact for a weight that is off by rounding.
    part, least = untrained.exact_delta(), singular[subject.case.config.r :].norm()
    rounding = 2 * bound(singular.norm(), dtype) + part.bound.norm()
    left = torch.linalg.matrix_norm(weight - part.value)
    wrong = off("‖W - s·B A‖", left, Exact(least, rounding))
    if wrong:
        yield Deviation(wrong)
    a, b = untrained.a.detach().double(), untrained.b.detach().double()
    size = (a.norm() ** 2 + b.norm() ** 2).expand(len(a), len(a))
    wrong = off("A Aᵀ", a @ a.T, Exact(b.T @ b, bound(size, dtype)))
    if wrong:
        yield Deviation(wrong, "one factor has more of the singular values than the other, which are not √σ in each")


@lora_property(
    "olora-decomposes-the-weight",
    "OLoRA's factors are the first ranks of a QR decomposition of the weight",
    formula="W = Q R, B = Q and A = R in the first r ranks, each times a number that may be 1",
    source=OLORA,
    cause="the factors are not those of a QR decomposition, or of another matrix",
    cases=_starting("olora"),
    kinds=KINDS,
    features=("olora",),
)
def olora_decomposes_the_weight(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained = subject.untrained()
    a, b = untrained.a.detach().double(), untrained.b.detach().double()
    used = b.any(dim=0)  # There are no more ranks in a decomposition than there are inputs or outputs.
    a, b = a[used], b[:, used]
    q = b / (b.norm() / len(a) ** 0.5)
    weight = _outputs_by_inputs(subject)
    first, part = weight[:, : subject.case.config.r], q.T @ weight
    r = part * (a * part).sum() / part.norm() ** 2
    wrong = (
        _beyond_rounding(subject, "Qᵀ Q", q.T @ q, torch.eye(len(a)).double())
        or _beyond_rounding(subject, "Q Qᵀ W", q @ q.T @ first, first)
        or _beyond_rounding(subject, "A", a, r)
    )
    if wrong:
        yield Deviation(wrong)


def _beyond_rounding(subject: AdaptedLayer, what: str, observed: Tensor, exact: Tensor) -> str | None:
    """Rounding errors of a matrix decomposition are as large as those of its largest numbers."""
    return off(what, observed, Exact(exact, bound(exact.norm(), subject.case.dtype).expand_as(exact)))


def _outputs_by_inputs(subject: AdaptedLayer) -> Tensor:
    form = subject.case.base
    weight = form.weight(subject.base).detach().double()
    return weight.T if form.kind == "conv1d" else weight
