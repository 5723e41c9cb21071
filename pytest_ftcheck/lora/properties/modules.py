"""An adapted layer is a module like any other: it can be counted, copied, moved and restored."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial

import torch

from ..comparison import off, unequal
from ..layer_case import AdaptedLayer
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases

LORA = "https://arxiv.org/abs/2106.09685"
# What the slope alone would take from a loss of 1. A step must be so short that only the slope counts, which depends on
# how curved the loss is; the shortest is still far above rounding in double precision.
SHORTER = tuple(1e-6 / 4**i for i in range(10))
MODULE = "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html"


@lora_property(
    "trains-the-closed-form",
    "as many parameters are trained as the declaration means",
    formula="r·(inputs + outputs) for a matrix, and a number for each output with DoRA and with a bias of B",
    source=LORA,
    cause="a rank that is not the declared one, a parameter of the base that trains, or one that does not",
    cases=partial(layer_cases, features=("dropout", "rslora", "dora", "lora_bias", "bias")),
)
def trains_the_closed_form(subject: AdaptedLayer) -> Iterator[Deviation]:
    form, config = subject.case.base, subject.case.config
    shapes, bias = form.shapes(config.r), form.bias(subject.base)
    declared = sum(math.prod(shape) for shape in shapes)
    if config.use_dora or config.options.get("lora_bias"):
        outputs = shapes[1][0]
        declared += outputs * (int(config.use_dora) + int(bool(config.options.get("lora_bias"))))
    declared += bias.numel() if bias is not None and config.bias != "none" else 0
    trained = sum(parameter.numel() for parameter in subject.wrapped.parameters() if parameter.requires_grad)
    if trained != declared:
        yield Deviation(f"{trained} parameters are trained, must be {declared}")


@lora_property(
    "state-dict-restores",
    "a state dict holds all that an output depends on",
    formula="y as before, after load_state_dict(state_dict()) into a layer that was made anew",
    source=MODULE,
    cause="a factor, or what the output needs of it, is no parameter and no buffer of the layer",
    cases=layer_cases,
)
def state_dict_restores(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, anew = subject.inputs(), subject.untrained()
    anew.wrapped.load_state_dict(subject.wrapped.state_dict())
    wrong = unequal("y", anew(x), subject(x))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "copies-share-nothing",
    "a copy computes the same, and does not change with the original",
    formula="y of the copy as before, after A and B of the original have changed",
    source=MODULE,
    cause="a closure or a hook of the copy uses the factors of the original",
    cases=layer_cases,
)
def copies_share_nothing(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    before = subject(x).detach().clone()
    copied = copy.deepcopy(subject.wrapped)
    with torch.no_grad():
        subject.a.zero_()
        subject.b.zero_()
    wrong = unequal("y", subject.adapter.forward(copied, x), before)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "moves-as-one",
    "cast to double precision, the whole layer computes in double precision",
    formula="y = W x + b + s·B(A x) in float64, after .to(torch.float64)",
    source=MODULE,
    cause="a factor is no parameter of the layer, or is cast back to the precision that it was made in",
    cases=partial(layer_cases, features=("rslora",), dtypes=(torch.float32,)),
)
def moves_as_one(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject.wrapped.to(torch.float64)
    # The numbers of single precision are numbers of double precision too.
    exact = subject.exact(x)
    observed = subject(x.double() if x.is_floating_point() else x)
    precise = exact._replace(bound=exact.bound * (torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps))
    wrong = f"y is {observed.dtype}" if observed.dtype != torch.float64 else off("y", observed, precise)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "learns-what-it-is-taught",
    "steps of gradient descent on the parameters that are trained make the loss smaller, and leave the base as it is",
    formula="‖y - y*‖² falls with a step along the negative gradient; W and b as before",
    source=LORA,
    cause="a factor that the optimizer is not given, a gradient of the wrong sign, or a base that changes",
    cases=partial(layer_cases, features=("rslora",), dtypes=(torch.float64,)),
)
def learns_what_it_is_taught(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    aim = subject(x).detach() + 1.0
    trained = [parameter for parameter in subject.wrapped.parameters() if parameter.requires_grad]
    others = [(one, one.detach().clone()) for one in subject.wrapped.parameters() if not one.requires_grad]
    before = (subject(x) - aim).square().mean()
    before.backward()  # type: ignore[no-untyped-call]
    steepness = sum(float(one.grad.square().sum()) for one in trained if one.grad is not None)
    if steepness == 0:
        yield Deviation(f"the gradient of {len(trained)} parameters is 0, must not be")
        return
    after = math.inf
    for share in SHORTER:
        _step(trained, share / steepness)
        after = float((subject(x) - aim).square().mean().detach())
        if after < float(before):
            break
        _step(trained, -share / steepness)
    if not after < float(before):
        yield Deviation(f"the loss is {after:.9g} after a step, must be below {float(before):.9g}")
    for parameter, kept in others:
        if not torch.equal(parameter, kept):
            yield Deviation(f"{int((parameter != kept).sum())} numbers that are not trained have changed, must be none")


def _step(parameters: list[torch.nn.Parameter], alpha: float) -> None:
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=alpha)
