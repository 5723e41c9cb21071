"""Merging: ΔW becomes a part of the weight, and can be taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ...theory.tolerance import bound, unit_roundoff
from ..comparison import off, unequal
from ..layer_case import AdaptedLayer, Exact
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases

LORA = "https://arxiv.org/abs/2106.09685"
# A bias of B, and training of the base's, must be merged too.
WITH_BIASES = partial(layer_cases, features=("rslora", "bias", "lora_bias"))


def _weight(subject: AdaptedLayer) -> Tensor:
    return subject.adapter.weight(subject.layer).detach().clone()


def _unmerged(subject: AdaptedLayer, times: int = 1) -> Exact:
    """W, after ΔW was added and subtracted: each rounds once, to half a unit in the last place."""
    merged, form = subject.exact_weight(), subject.case.base
    base = form.weight(subject.base).detach().double()
    larger = torch.maximum(form.dense(base).abs(), merged.value.abs())
    tiny = bound(torch.zeros_like(larger), subject.case.dtype)
    return Exact(form.dense(base), times * (4 * unit_roundoff(subject.case.dtype) * larger + tiny))


@lora_property(
    "merged-weight",
    "merging adds ΔW to the base's weight",
    formula="W' = W + s·B A, so that W' - W = ΔW",
    source=LORA,
    cause="the product is not scaled or not turned as the weight is, or it replaces the weight",
    needs=("merge", "weight"),
    cases=layer_cases,
)
def merged_weight(subject: AdaptedLayer) -> Iterator[Deviation]:
    subject.adapter.merge(subject.wrapped)
    wrong = off("W'", subject.case.base.dense(_weight(subject)), subject.exact_weight())
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "merged-output",
    "a merged layer computes what it did before, in evaluation and in training",
    formula="y = W' x + b = W x + b + s·B(A x)",
    source=LORA,
    cause="the update is still computed apart, and so added twice, or only one of the two modes knows of the merging",
    needs=("merge",),
    cases=layer_cases,
)
def merged_output(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject.adapter.merge(subject.wrapped)
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(wrong)
    if subject.case.config.dropout == 0:
        subject.wrapped.train()
        wrong = off("y", subject(x), subject.exact(x))
        if wrong:
            yield Deviation(f"in training mode, {wrong}")


@lora_property(
    "merging-keeps-the-output",
    "merging changes no output, whatever else an adapter has: biases too",
    formula="y after merging = y before",
    source=LORA,
    cause="a bias of B is not merged, or is merged without the scaling",
    needs=("merge",),
    cases=WITH_BIASES,
)
def merging_keeps_the_output(subject: AdaptedLayer) -> Iterator[Deviation]:
    with torch.no_grad():
        for parameter in subject.wrapped.parameters():
            if parameter.requires_grad and parameter.dim() == 1:
                parameter.add_(1.0)
    x = subject.inputs()
    before, exact = subject(x).detach().double(), subject.exact(x)
    subject.adapter.merge(subject.wrapped)
    # What is in the output beyond the closed form is of the biases, and rounded with it.
    beyond = bound((before - exact.value).abs(), subject.case.dtype)
    wrong = off("y", subject(x), Exact(before, 2 * exact.bound + beyond))
    if wrong:
        yield Deviation(f"after merging, {wrong}")


@lora_property(
    "unmerging-restores",
    "what was merged can be taken out again, within 2 units in the last place",
    formula="unmerge(merge(W)) = W, within 4·u·max(|W|, |W + ΔW|)",
    source=LORA,
    cause="another ΔW is subtracted than was added, or nothing is",
    needs=("merge", "unmerge", "weight"),
    cases=layer_cases,
)
def unmerging_restores(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, form = subject.inputs(), subject.case.base
    subject.adapter.merge(subject.wrapped)
    subject.adapter.unmerge(subject.wrapped)
    exact = _unmerged(subject)
    wrong = off("W", form.dense(_weight(subject)), exact)
    if wrong:
        yield Deviation(wrong)
    output, moved = subject.exact(x), form.apply(exact.bound, None, x.double().abs() if x.is_floating_point() else x)
    wrong = off("y", subject(x), Exact(output.value, output.bound + moved))
    if wrong:
        yield Deviation(f"after unmerging, {wrong}", "the update is not computed apart again")


@lora_property(
    "merging-in-cycles",
    "merging and unmerging can be repeated",
    formula="W after n cycles, within n times the rounding of one",
    source=LORA,
    cause="a state that is set once: the second merge adds nothing, or the second unmerge subtracts nothing",
    needs=("merge", "unmerge", "weight"),
    cases=layer_cases,
)
def merging_in_cycles(subject: AdaptedLayer) -> Iterator[Deviation]:
    form = subject.case.base
    for cycle in (1, 2, 3):
        subject.adapter.merge(subject.wrapped)
        merged, drift = subject.exact_weight(), _unmerged(subject, cycle)
        wrong = off("W'", form.dense(_weight(subject)), Exact(merged.value, merged.bound + drift.bound))
        subject.adapter.unmerge(subject.wrapped)
        wrong = wrong or off("W", form.dense(_weight(subject)), drift)
        if wrong:
            yield Deviation(f"in cycle {cycle}, {wrong}")


@lora_property(
    "merging-twice-is-merging-once",
    "to merge what is merged changes nothing, nor does unmerging what is not",
    formula="merge(merge(W)) = merge(W), unmerge(W) = W",
    source=LORA,
    cause="nothing remembers that the layer is merged",
    needs=("merge", "unmerge", "weight"),
    cases=layer_cases,
)
def merging_twice_is_merging_once(subject: AdaptedLayer) -> Iterator[Deviation]:
    before = _weight(subject)
    subject.adapter.unmerge(subject.wrapped)
    wrong = unequal("W", _weight(subject), before)
    if wrong:
        yield Deviation(f"unmerged before it was merged, {wrong}")
    subject.adapter.merge(subject.wrapped)
    once = _weight(subject)
    subject.adapter.merge(subject.wrapped)
    wrong = unequal("W'", _weight(subject), once)
    if wrong:
        yield Deviation(f"merged twice, {wrong}")


@lora_property(
    "merging-leaves-the-factors",
    "merging and unmerging leave the factors as they are",
    formula="A and B as before",
    source=LORA,
    cause="the factors are set to zero, scaled in place, or made anew",
    needs=("merge", "unmerge"),
    cases=layer_cases,
)
def merging_leaves_the_factors(subject: AdaptedLayer) -> Iterator[Deviation]:
    a, b = subject.a.detach().clone(), subject.b.detach().clone()
    for name in ("merge", "unmerge"):
        getattr(subject.adapter, name)(subject.wrapped)
        wrong = unequal("A", subject.a, a) or unequal("B", subject.b, b)
        if wrong:
            yield Deviation(f"after {name}, {wrong}")


@lora_property(
    "merging-keeps-the-base-frozen",
    "a merged layer has the parameters that it had, of the same precision, and none of the base's begins to train",
    formula="names, dtypes and requires_grad of all parameters as before",
    source=LORA,
    cause="the merged weight is a new parameter, which trains, or is left in the precision of the factors",
    needs=("merge", "unmerge"),
    cases=layer_cases,
)
def merging_keeps_the_base_frozen(subject: AdaptedLayer) -> Iterator[Deviation]:
    def parameters() -> dict[str, tuple[torch.dtype, bool]]:
        return {name: (one.dtype, one.requires_grad) for name, one in subject.wrapped.named_parameters()}

    before = parameters()
    for name in ("merge", "unmerge"):
        getattr(subject.adapter, name)(subject.wrapped)
        after = parameters()
        changed = [one for one in before | after if before.get(one) != after.get(one)]
        if changed:
            one = changed[0]
            yield Deviation(
                f"{len(changed)} parameters differ after {name}: {one}, {before.get(one)} -> {after.get(one)}"
            )
