"""What comes out of an adapted layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..comparison import off, unequal
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
    exact, observed = subject.exact(x), subject(x)
    wrong = off("y", observed, exact)
    if wrong:
        yield Deviation(wrong, suspect(subject, x, observed))


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
    wrong = unequal("y", untrained(x), subject.base(x))
    if wrong:
        yield Deviation(wrong)
