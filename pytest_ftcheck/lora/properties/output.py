"""What comes out of an adapted layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from ..comparison import off, unequal, unlike_base
from ..layer_case import AdaptedLayer
from ..property import Deviation, lora_property
from ..state import CONTENTS
from ..strategies.cases import layer_cases
from ..suspects import suspect

LORA = "https://arxiv.org/abs/2106.09685"


@lora_property(
    "output-is-base-plus-update",
    "an adapted layer computes the base's output plus the scaled product of its factors",
    formula="y = W x + b + s·B(A x), in the layer's own orientation",
    source=LORA,
    cause="factors, scaling or orientation in forward",
    cases=partial(layer_cases, contents=CONTENTS),
)
def output_is_base_plus_update(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(wrong, suspect(subject))


@lora_property(
    "starts-as-the-base",
    "before it is trained, an adapted layer computes what the base computes, bit for bit",
    formula="B A = 0 at the start, so that y = W x + b",
    source=LORA,
    cause="both factors are drawn at random, or the base's weight was changed when it was wrapped",
    cases=layer_cases,
)
def starts_as_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, untrained = subject.inputs(), subject.untrained()
    wrong = unlike_base("y", untrained(x), untrained, x)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "can-start-to-train",
    "before it is trained, one of the factors is not zero, so that the other one is given a gradient",
    formula="A ≠ 0 or B ≠ 0 at the start",
    source=LORA,
    cause="both factors start at zero: neither is ever given a gradient",
    cases=layer_cases,
)
def can_start_to_train(subject: AdaptedLayer) -> Iterator[Deviation]:
    untrained = subject.untrained()
    for name, factor in (("A", untrained.a), ("B", untrained.b)):
        if not factor.isfinite().all():
            yield Deviation(f"{name} starts with {int((~factor.isfinite()).sum())} numbers that are not finite")
    if not untrained.a.any() and not untrained.b.any():
        yield Deviation("0 numbers of A and B are not zero at the start")


@lora_property(
    "zero-b-is-the-base",
    "where B is zero, an adapted layer computes what the base computes, bit for bit, whatever A is",
    formula="B = 0 makes y = W x + b",
    source=LORA,
    cause="something besides B A is added to the base's output, or that is changed on its way",
    cases=partial(layer_cases, contents=("zero B", "negative zero")),
)
def zero_b_is_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    wrong = unlike_base("y", subject(x), subject, x)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "follows-its-factors",
    "the output is that of the factors as they are now, not as they were in an earlier forward pass",
    formula="y = W x + b + s·B(A x) after A and B have changed",
    source=LORA,
    cause="the product, a transpose or a merged weight is kept from an earlier forward pass",
    cases=layer_cases,
)
def follows_its_factors(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject(x)
    state = subject.case.state
    # As an optimizer does it: in place, between a pass in training mode and one in evaluation mode.
    subject.wrapped.train()
    subject(x)
    replace(state, seed=state.seed + 1).fill(subject.a, subject.b, subject.case.dtype)
    subject.wrapped.eval()
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "factors-have-the-rank",
    "A has a row and B a column for each unit of rank",
    formula="A: (r, inputs) and B: (outputs, r), with the declared r",
    source=LORA,
    cause="another rank than the declared one, or factors that lie the other way round",
    cases=layer_cases,
)
def factors_have_the_rank(subject: AdaptedLayer) -> Iterator[Deviation]:
    declared = subject.case.base.shapes(subject.case.config.r)
    for name, factor, shape in zip("AB", (subject.a, subject.b), declared, strict=True):
        if factor.shape != shape:
            yield Deviation(f"{name} has shape {tuple(factor.shape)}, must have {shape}")


@lora_property(
    "output-is-like-the-bases",
    "the output has the shape and the dtype that the base's has, also for an input that is not contiguous",
    formula="y is of the shape and dtype of W x + b",
    source=LORA,
    cause="the output is left in the precision of the factors, or reshaped",
    cases=layer_cases,
)
def output_is_like_the_bases(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    observed, base = subject(x), subject.base(x)
    if (observed.dtype, observed.shape) != (base.dtype, base.shape):
        yield Deviation(f"y is {observed.dtype} {tuple(observed.shape)}, must be {base.dtype} {tuple(base.shape)}")
    wrong = off("y", subject(torch.stack([x, x], -1)[..., 0]), subject.exact(x))
    if wrong:
        yield Deviation(f"for an input that is not contiguous, {wrong}", "a view of the input that assumes its layout")


@lora_property(
    "forward-changes-nothing",
    "a forward pass changes neither its input nor the factors, nor what the next one returns",
    formula="y(x) = y(x), with x, A and B as before",
    source=LORA,
    cause="an operation in place, on the input, on a factor, or on what the base has returned",
    cases=layer_cases,
)
def forward_changes_nothing(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    before, a, b = x.clone(), subject.a.detach().clone(), subject.b.detach().clone()
    first = subject(x).detach().clone()
    after = (
        ("x", x, before),
        ("A", subject.a, a),
        ("B", subject.b, b),
        ("y, the second time,", subject(before.clone()), first),
    )
    for name, observed, expected in after:
        wrong = unequal(name, observed, expected)
        if wrong:
            yield Deviation(wrong)
