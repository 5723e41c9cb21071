"""The factor in front of B A."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...theory.tolerance import FACTOR, unit_roundoff
from ..comparison import off
from ..layer_case import AdaptedLayer
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases

RSLORA = "https://arxiv.org/abs/2312.03732"
# An implementation may keep it in single precision.
RELATIVE = FACTOR * unit_roundoff(torch.float32)


def _misstated(subject: AdaptedLayer, expected: float) -> str | None:
    stated = subject.adapter.scaling(subject.layer)
    return None if abs(stated - expected) <= RELATIVE * abs(expected) else f"s is {stated:.9g}, must be {expected:.9g}"


@lora_property(
    "scaling-as-declared",
    "the scaling is alpha / r, and alpha / √r with rsLoRA",
    formula="s = alpha / r, or alpha / √r",
    source=RSLORA,
    cause="alpha / √r for alpha / r or the other way round, whole numbers divided, or the rank of another adapter",
    needs=("scaling",),
    cases=layer_cases,
)
def scaling_as_declared(subject: AdaptedLayer) -> Iterator[Deviation]:
    wrong = _misstated(subject, subject.scaling)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "scale-multiplies-the-update",
    "scaling a layer multiplies its update, each time, and unscaling takes all of it back",
    formula="y = W x + b + f·s·B(A x) after scale(f)",
    source="https://github.com/huggingface/peft/pull/2740",
    cause="the scaling is set instead of multiplied, or set back without regard to rsLoRA",
    needs=("scale", "unscale"),
    cases=layer_cases,
)
def scale_multiplies_the_update(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, s = subject.inputs(), subject.scaling
    expected = s
    for factor in (3.0, 0.5):
        subject.adapter.scale(subject.wrapped, factor)
        expected *= factor
        wrong = off("y", subject(x), subject.exact(x, expected))
        if wrong:
            yield Deviation(f"after scale({factor:g}), {wrong}")
    subject.adapter.unscale(subject.wrapped)
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(f"after unscale(), {wrong}")
