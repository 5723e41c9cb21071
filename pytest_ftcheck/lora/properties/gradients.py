"""What a backward pass gives to the factors, to the input and to the base."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ..bases.random import normal
from ..comparison import off
from ..layer_case import AdaptedLayer, Exact
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases
from ..trained import gradient_of, parameter_of
from .linearity import OF_NUMBERS

LORA = "https://arxiv.org/abs/2106.09685"


def _upstream(subject: AdaptedLayer, x: Tensor, output: Tensor, number: int = 0) -> Tensor:
    """∂L/∂y. It is zero for padding tokens, of which implementations decide what they give to B."""
    upstream = normal(tuple(output.shape), output.dtype, subject.case.seed + 100 + number)
    padding = getattr(subject.case.base, "padding", None)
    if padding is not None and not x.is_floating_point():
        upstream[x == padding] = 0
    return upstream


@lora_property(
    "gradients-of-the-factors",
    "the gradients of A and B are those of the closed form, and add up over backward passes",
    formula="∂L/∂A = s·Bᵀ ∂L/∂y xᵀ and ∂L/∂B = s·∂L/∂y (A x)ᵀ, summed over the rows",
    source=LORA,
    cause="a factor, or what comes out of it, is detached, or the gradient is not scaled as the output is",
    cases=partial(layer_cases, features=("rslora",)),
)
def gradients_of_the_factors(subject: AdaptedLayer) -> Iterator[Deviation]:
    subject.wrapped.train()
    total: dict[str, Exact] = {}
    for number, times in enumerate(("once", "twice")):
        x = subject.inputs(number)
        output = subject(x)
        upstream = _upstream(subject, x, output, number)
        output.backward(upstream)  # type: ignore[no-untyped-call]
        for name, exact in subject.exact_gradients(x, upstream).items():
            before = total.get(name)
            total[name] = exact if before is None else Exact(*map(torch.add, exact, before))
        for name, factor in (("A", subject.a), ("B", subject.b)):
            gradient = gradient_of(subject.wrapped, factor)
            wrong = "is missing" if gradient is None else off("", gradient, total[name])
            if wrong:
                yield Deviation(f"after {times} backward, ∂L/∂{name}{'' if wrong[0] == '[' else ' '}{wrong}")


@lora_property(
    "gradient-of-the-input",
    "the gradient of the input goes through the base and through the update",
    formula="∂L/∂x = (W + s·B A)ᵀ ∂L/∂y",
    source=LORA,
    cause="the input of A is detached, or the base runs without gradients: what is before learns from a part",
    kinds=OF_NUMBERS,
    cases=partial(layer_cases, features=("rslora",)),
)
def gradient_of_the_input(subject: AdaptedLayer) -> Iterator[Deviation]:
    subject.wrapped.train()
    x = subject.inputs().requires_grad_()
    output = subject(x)
    upstream = _upstream(subject, x, output)
    output.backward(upstream)  # type: ignore[no-untyped-call]
    exact = subject.exact_gradients(x, upstream)["x"]
    wrong = "∂L/∂x is missing" if x.grad is None else off("∂L/∂x", x.grad, exact)
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "gradients-are-differences",
    "the gradients of A and B are how much the output changes with them, with the same dropout",
    formula="Σ D·∂L/∂A = L(A + D) - L(A), exactly, since L = Σ ∂L/∂y · y is linear in A; and so for B",
    source=LORA,
    cause="a backward pass that is not that of the forward pass: another mask, another scaling, a detached factor",
    cases=partial(layer_cases, dtypes=(torch.float64,)),
)
def gradients_are_differences(subject: AdaptedLayer) -> Iterator[Deviation]:
    subject.wrapped.train()
    x = subject.inputs()
    output = _in_training(subject, x)
    upstream = _upstream(subject, x, output)
    output.backward(upstream)  # type: ignore[no-untyped-call]
    # What is kept by dropout is as much larger.
    kept = 1 - subject.case.config.dropout
    allowed = float((subject.exact(x).bound * upstream.abs()).sum()) / kept
    for name, factor in (("A", subject.a), ("B", subject.b)):
        gradient = gradient_of(subject.wrapped, factor)
        if gradient is None:
            yield Deviation(f"∂L/∂{name} is missing")
            continue
        direction = normal(tuple(factor.shape), factor.dtype, subject.case.seed + 200)
        before = factor.detach().clone()
        with torch.no_grad():
            factor.add_(direction)
        changed = _in_training(subject, x).detach() - output.detach()
        beyond = float((subject.exact(x).bound * upstream.abs()).sum()) / kept
        with torch.no_grad():
            factor.copy_(before)
        expected = Exact((changed * upstream).sum(), torch.tensor(allowed + beyond))
        wrong = off(f"Σ D·∂L/∂{name}", (gradient * direction).sum(), expected)
        if wrong:
            yield Deviation(wrong)


def _in_training(subject: AdaptedLayer, x: Tensor) -> Tensor:
    """The output in training mode, with the same mask each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(subject.case.seed)
        return subject(x)


@lora_property(
    "only-the-factors-train",
    "A and B are trained, and nothing of the base is",
    formula="requires_grad for A and B alone; ∂L/∂W is not computed",
    source=LORA,
    cause="the base is not frozen, or a factor is no parameter of the layer, so that no optimizer gets it",
    cases=layer_cases,
)
def only_the_factors_train(subject: AdaptedLayer) -> Iterator[Deviation]:
    factors = {name: parameter_of(subject.wrapped, getattr(subject, name.lower())) for name in "AB"}
    for name, parameter in factors.items():
        if parameter is None or not parameter.requires_grad:
            told = "no parameter of the layer" if parameter is None else "not trained"
            yield Deviation(f"{name} is {told}, must be a parameter that is")
    output = subject(subject.inputs())
    if output.requires_grad:
        output.sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in subject.wrapped.named_parameters():
        of_base = not any(parameter is factor for factor in factors.values())
        if of_base and (parameter.requires_grad or parameter.grad is not None):
            yield Deviation(f"{name}, {parameter.numel()} numbers, is trained; must be A and B alone")


@lora_property(
    "padding-is-not-trained",
    "what A has for the padding token is given no gradient, as its row of the embedding is not",
    formula="∂L/∂A[:, padding] = 0",
    source="https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html",
    cause="A is looked up without the embedding's padding_idx",
    kinds=("embedding",),
    cases=layer_cases,
)
def padding_is_not_trained(subject: AdaptedLayer) -> Iterator[Deviation]:
    padding = getattr(subject.case.base, "padding", None)
    if padding is None:
        return
    x = torch.cat([subject.inputs().flatten(), torch.tensor([padding])])
    subject.wrapped.train()
    subject(x).sum().backward()  # type: ignore[no-untyped-call]
    gradient = gradient_of(subject.wrapped, subject.a)
    if gradient is not None and gradient[:, padding].any():
        yield Deviation(f"∂L/∂A[:, {padding}] is {gradient[:, padding].tolist()}, must be 0")
