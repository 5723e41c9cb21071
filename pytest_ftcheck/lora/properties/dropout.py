"""Dropout on the input of A, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ..comparison import off, unlike_base
from ..layer_case import AdaptedLayer, Exact
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases
from ..strategies.declared import declared

LORA = "https://arxiv.org/abs/2106.09685"
DROPOUT = "https://jmlr.org/papers/v15/srivastava14a.html"
# Layers whose inputs are numbers. On stacked experts PEFT knows no dropout, others may.
KINDS = ("linear", "conv1d", "convolution", "experts")
ROWS = 1024
# Of what is next to normal over so many rows, and so rarer than 1 in 500 million.
SIGMAS = 6.0
PRECISE = (torch.float32, torch.float64)


@lora_property(
    "training-without-dropout",
    "without dropout, a layer computes the same in training as in evaluation, with no random number",
    formula="p = 0 makes y in training equal to W x + b + s·B(A x)",
    source=LORA,
    cause="a dropout that was not declared, or noise",
    cases=partial(layer_cases, features=("rslora",)),
)
def training_without_dropout(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject.wrapped.train()
    before = torch.get_rng_state()
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(wrong)
    if not torch.equal(before, torch.get_rng_state()):
        yield Deviation("1 forward pass or more draws random numbers, must draw none", "a dropout that drops nothing")


@lora_property(
    "dropout-only-in-training",
    "in evaluation nothing is dropped, also after training",
    formula="y = W x + b + s·B(A x) in evaluation mode",
    source=DROPOUT,
    cause="functional dropout without `training=self.training`, or a mode that does not reach the adapter",
    kinds=KINDS,
    features=("dropout",),
    cases=partial(declared, {"dropout": 0.5}),
)
def dropout_only_in_training(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject.wrapped.train()
    subject(x)
    subject.wrapped.eval()
    wrong = off("y", subject(x), subject.exact(x))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "dropout-spares-the-base",
    "what the base computes is not dropped",
    formula="B = 0 makes y = W x + b in training too",
    source=LORA,
    cause="dropout acts on the input of the base, or on the output",
    kinds=KINDS,
    features=("dropout",),
    cases=partial(declared, {"dropout": 0.5}, contents=("zero B",)),
)
def dropout_spares_the_base(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    subject.wrapped.train()
    wrong = unlike_base("y", subject(x), subject, x)
    if wrong:
        yield Deviation(wrong)


def _row(subject: AdaptedLayer) -> Tensor:
    """One row of input."""
    return subject.case.base.inputs((1,), subject.case.dtype, subject.case.seed + 1)


def _repeated(subject: AdaptedLayer, row: Tensor) -> Tensor:
    return row.repeat_interleave(ROWS, _dimension_of_rows(subject))


def _rows(subject: AdaptedLayer, output: Tensor) -> Tensor:
    """(rows, numbers) of what came of them."""
    return output.detach().double().movedim(_dimension_of_rows(subject), 0).flatten(1)


def _dimension_of_rows(subject: AdaptedLayer) -> int:
    return int(subject.case.base.kind == "experts")


@lora_property(
    "dropout-drops-and-scales",
    "in training each number of A's input is dropped with the declared probability, anew each time, or else scaled up",
    formula="for a single number of x that is not 0, s·B(A x) is either 0 or divided by 1 - p; 0 in p of all rows",
    source=DROPOUT,
    cause="another probability than the declared one, p for 1 - p, no scaling up, or one mask for all",
    kinds=KINDS,
    features=("dropout",),
    cases=partial(declared, {"dropout": 0.25}, dtypes=PRECISE),
)
def dropout_drops_and_scales(subject: AdaptedLayer) -> Iterator[Deviation]:
    row, p = torch.zeros_like(_row(subject)), subject.case.config.dropout
    # The middle of an image is seen by a kernel wherever it steps, or by none of its outputs.
    row[tuple(size // 2 for size in row.shape)] = 1.0
    single = _repeated(subject, row)
    subject.wrapped.train()
    base = _rows(subject, subject.base(single))
    whole, allowed = (_rows(subject, one) for one in subject.exact(single))
    update = (whole - base) / (1 - p)
    allowed = allowed / (1 - p)
    first, second = (_rows(subject, subject(single)) - base for _ in range(2))
    dropped, kept = (first.abs() <= allowed).all(1), ((first - update).abs() <= 2 * allowed).all(1)
    if bool((update.abs() <= 4 * allowed).all()):
        return  # Nothing of the update is to be seen here.
    if not (dropped | kept).all():
        worst = int((~(dropped | kept)).nonzero()[0])
        told = off("", first[worst], Exact(update[worst], 2 * allowed[worst]))
        yield Deviation(f"what is kept: s·B(A x){told}", "what is kept is not divided by 1 - p, or A x is dropped")
        return
    share, error = float(dropped.double().mean()), (p * (1 - p) / ROWS) ** 0.5
    if not abs(share - p) <= SIGMAS * error:
        yield Deviation(f"{share:.3f} of the rows are dropped, must be {p} within {SIGMAS * error:.3f}")
    if torch.equal(dropped, (second.abs() <= allowed).all(1)):
        yield Deviation(f"{ROWS} rows are dropped alike in two passes", "the mask, or the seed of it, is kept")


@lora_property(
    "dropout-keeps-the-mean",
    "dropout leaves the mean of the update as it is, and drops each number of the input on its own",
    formula="mean s·B(A x), variance p / (1 - p) · Σ (s·B A)²ᵢⱼ x²ⱼ",
    source=DROPOUT,
    cause="what is kept is not divided by 1 - p, or whole rows are dropped at once",
    kinds=KINDS,
    features=("dropout",),
    cases=partial(declared, {"dropout": 0.5}, dtypes=PRECISE),
)
def dropout_keeps_the_mean(subject: AdaptedLayer) -> Iterator[Deviation]:
    x, p, form = _repeated(subject, _row(subject)), subject.case.config.dropout, subject.case.base
    subject.wrapped.train()
    drawn = _rows(subject, subject(x))
    whole, allowed = (_rows(subject, one)[0] for one in subject.exact(x))
    variance = p / (1 - p) * _rows(subject, form.apply(subject.exact_delta().value ** 2, None, x.double() ** 2))[0]
    wrong = off("mean y", drawn.mean(0), Exact(whole, SIGMAS * (variance / ROWS).sqrt() + 2 * allowed))
    if wrong:
        yield Deviation(wrong)
    # The fourth moment of a sum of numbers that are dropped with p = 1/2 is at most three times its squared variance.
    error = SIGMAS * variance * (2 / ROWS) ** 0.5
    rounding = 4 * allowed * (variance.sqrt() + allowed)
    wrong = off("variance of y", drawn.var(0), Exact(variance, error + rounding))
    if wrong:
        yield Deviation(wrong, "whole rows are dropped at once, or with another probability")
