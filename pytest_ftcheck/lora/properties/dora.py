"""DoRA: what an output's weight vector is long, and where it points, are learned apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from ...errors import NotApplicable
from ..bases.random import generator, normal
from ..comparison import off
from ..decomposition import Decomposition
from ..layer_case import AdaptedLayer, Exact
from ..property import Deviation, lora_property
from ..strategies.declared import declared
from ..trained import gradient_of

DORA = "https://arxiv.org/abs/2402.09353"
# Nothing is published about DoRA on a stack of experts.
KINDS = ("linear", "conv1d", "embedding", "convolution")
CASES = partial(declared, {"use_dora": True})


@lora_property(
    "dora-magnitude-starts-as-length",
    "DoRA's magnitude starts as the length of each output's weight",
    formula="m = ‖W + s·B A‖ over the inputs of each output, which is ‖W‖ at the start",
    source=DORA,
    cause="the length is taken over the wrong dimension of the weight, or over all of it",
    cases=CASES,
    needs=("magnitude",),
    kinds=KINDS,
    features=("dora",),
)
def dora_magnitude_starts_as_length(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained = subject.untrained()
    observed = untrained.adapter.magnitude(untrained.layer).detach().flatten()
    wrong = off("m", observed, Decomposition(untrained).start)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dora-starts-as-the-base",
    "before it is trained, a layer with DoRA computes what the base computes",
    formula="y = m·(W + s·B A) x / ‖W + s·B A‖ + b = W x + b at the start",
    source=DORA,
    cause="the magnitude is not the length that it is divided by, or both factors are drawn at random",
    cases=CASES,
    needs=("magnitude",),
    kinds=KINDS,
    features=("dora",),
)
def dora_starts_as_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, untrained = subject.inputs(), subject.untrained()
    exact = Decomposition(untrained).output(x)
    wrong = off("y", untrained(x), Exact(subject.exact(x, 0.0).value, exact.bound))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dora-output",
    "a layer with DoRA computes with weights of the length m, in the direction of the updated weight",
    formula="y = m·(W + s·B A) x / ‖W + s·B A‖ + b, the length taken over the inputs of each output",
    source=DORA,
    cause="the length is of W alone, over the wrong dimension, or not scaled; or the bias is scaled with the weight",
    cases=partial(CASES, contents=("trained", "zero B")),
    needs=("magnitude",),
    kinds=KINDS,
    features=("dora",),
)
def dora_output(subject: AdaptedLayer) -> Iterator[Deviation]:
    _train_magnitude(subject)
    x = subject.inputs()
    wrong = off("y", subject(x), Decomposition(subject).output(x))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dora-merges-what-it-computes",
    "a merged layer with DoRA has weights of the length m, and computes the same",
    formula="W' = m·(W + s·B A) / ‖W + s·B A‖",
    source=DORA,
    cause="ΔW is merged without the magnitude, or the length is taken over the wrong dimension",
    cases=CASES,
    needs=("magnitude", "merge", "weight"),
    kinds=KINDS,
    features=("dora",),
)
def dora_merges_what_it_computes(subject: AdaptedLayer) -> Iterator[Deviation]:
    _train_magnitude(subject)
    x, expected = subject.inputs(), Decomposition(subject)
    weight, output = expected.weight(), expected.output(x)
    subject.adapter.merge(subject.wrapped)
    merged = subject.case.base.dense(subject.adapter.weight(subject.layer))
    wrong = off("W'", merged, weight) or off("y", subject(x), output)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dora-unmerges",
    "what was merged with DoRA can be taken out again",
    formula="unmerge(merge(W)) = W, within rounding",
    source=DORA,
    cause="the magnitude is not divided out again, or by the length of what is merged",
    cases=CASES,
    needs=("magnitude", "merge", "unmerge", "weight"),
    kinds=KINDS,
    features=("dora",),
)
def dora_unmerges(subject: AdaptedLayer) -> Iterator[Deviation]:
    _train_magnitude(subject)
    form, adapter, exact = subject.case.base, subject.adapter, Decomposition(subject).unmerged()
    adapter.merge(subject.wrapped)
    adapter.unmerge(subject.wrapped)
    wrong = off("W", form.dense(adapter.weight(subject.layer)), exact)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dora-gradients",
    "DoRA's magnitude and factors are given the gradients of what is computed",
    formula="∂L/∂m = Σ ∂L/∂y · V x / ‖V‖, V = W + s·B A; those of A and B with ‖V‖ held constant or not",
    source=DORA,
    cause="the magnitude is not trained, or more than the length is detached from the gradient",
    cases=partial(CASES, dtypes=(torch.float32, torch.float64)),
    needs=("magnitude",),
    kinds=KINDS,
    features=("dora",),
)
def dora_gradients(subject: AdaptedLayer) -> Iterator[Deviation]:
    if getattr(subject.case.base, "padding", None) is not None and subject.case.base.kind == "embedding":
        raise NotApplicable("what a padding token gives to B and to m, implementations decide")
    _train_magnitude(subject)
    x, expected = subject.inputs(), Decomposition(subject)
    output = subject(x)
    upstream = normal(tuple(output.shape), output.dtype, subject.case.seed)
    output.backward(upstream)  # type: ignore[no-untyped-call]
    bounds = expected.gradient_bounds(x, upstream)
    shown = (subject.a, subject.b, subject.adapter.magnitude(subject.layer))
    found = [gradient_of(subject.wrapped, one) for one in shown]
    deviations = []
    for constant in (True, False):
        exact = expected.gradients(x, upstream, constant=constant)
        deviations.append(_first_wrong(found, [Exact(*pair) for pair in zip(exact, bounds, strict=True)]))
    # §4.3 advises to hold the length constant, which is faster; the other gradient is right as well.
    if all(deviations):
        yield Deviation(str(deviations[0]))


def _first_wrong(found: list[torch.Tensor | None], exact: list[Exact]) -> str | None:
    for name, gradient, one in zip(("A", "B", "m"), found, exact, strict=True):
        if gradient is None:
            return f"∂L/∂{name} is missing"
        wrong = off(f"∂L/∂{name}", gradient.reshape(one.value.shape), one)
        if wrong:
            return wrong
    return None


def _train_magnitude(subject: AdaptedLayer) -> None:
    """Make m other than a length, as training does: half to twice as long."""
    with torch.no_grad():
        magnitude = subject.adapter.magnitude(subject.layer)
        drawn = torch.rand(magnitude.shape, generator=generator(subject.case.state.seed), dtype=torch.float64)
        magnitude.mul_((0.5 + 1.5 * drawn).to(magnitude.dtype))
