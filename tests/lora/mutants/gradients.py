"""Mistakes in what a backward pass gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mutant import Mutant
from ..reference import Factors, ReferenceLayer

FACTORS, INPUT, DIFFERENCES = "gradients-of-the-factors", "gradient-of-the-input", "gradients-are-differences"
ONLY, PADDING, LEARNS = "only-the-factors-train", "padding-is-not-trained", "learns-what-it-is-taught"


class DetachesA(ReferenceLayer):
    @property
    def a(self) -> Tensor:
        return self.current.a.detach()


class DetachesB(ReferenceLayer):
    @property
    def b(self) -> Tensor:
        return self.current.b.detach()


class DetachesTheHidden(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        return super().down(x).detach()


class DetachesTheInput(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return super().drop(x).detach()


class RunsTheBaseWithoutGradients(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            output: Tensor = self.base(x)
        return self.combine(output, self.update(x))


class ScalesTheValueAlone(ReferenceLayer):
    """The gradient is that of an update that is not scaled."""

    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return output + update + (update * (self.current.scaling() - 1)).detach()


class LooksUpPadding(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.a.T) if isinstance(self.base, nn.Embedding) else super().down(x)


class PadsWithAnotherToken(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        base = self.base
        if not isinstance(base, nn.Embedding) or base.padding_idx is None:
            return super().down(x)
        return F.embedding(x, self.a.T, (base.padding_idx + 1) % base.num_embeddings)


class TrainsTheBase(ReferenceLayer):
    def __init__(self, base: Any, config: Any) -> None:
        super().__init__(base, config)
        self.base.weight.requires_grad_()


class FreezesA(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801 - the name that a layer knows it by
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            self.a.requires_grad_(False)


class TurnsTheGradientOfB(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            for factor in (self.a, self.b):
                factor.register_hook(torch.neg)


class _AnotherMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.p = p
        return F.dropout(x, p)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return F.dropout(gradients[0], ctx.p), None


class DropsTheGradientAnew(ReferenceLayer):
    """Dropout between A and B, whose backward pass draws a mask of its own."""

    def down(self, x: Tensor) -> Tensor:
        hidden, p = super().down(x), self.current.config.dropout
        return _AnotherMask.apply(hidden, p) if self.training and p else hidden  # type: ignore[no-any-return,no-untyped-call]


class HidesAFactor(ReferenceLayer):
    """B is a tensor and no parameter."""

    class factors_type(Factors):  # noqa: N801
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            b = self.b.detach().clone()
            del self.b
            self.b = b


MUTANTS = (
    Mutant(DetachesA, "A is detached", (FACTORS, DIFFERENCES)),
    Mutant(DetachesB, "B is detached", (FACTORS, DIFFERENCES)),
    Mutant(DetachesTheHidden, "A x is detached", (FACTORS, INPUT)),
    Mutant(DetachesTheInput, "the input of A is detached", (INPUT,)),
    Mutant(RunsTheBaseWithoutGradients, "the base runs without gradients", (INPUT,)),
    Mutant(ScalesTheValueAlone, "the gradient is not scaled", (FACTORS, DIFFERENCES, INPUT)),
    Mutant(LooksUpPadding, "A is looked up without padding_idx", (PADDING,)),
    Mutant(PadsWithAnotherToken, "padding_idx is off by one", (PADDING,)),
    Mutant(TrainsTheBase, "the base is not frozen", (ONLY, "trains-the-closed-form")),
    Mutant(FreezesA, "A is frozen", (ONLY, FACTORS, "trains-the-closed-form")),
    Mutant(TurnsTheGradientOfB, "the gradients have the wrong sign", (FACTORS, DIFFERENCES, LEARNS)),
    Mutant(DropsTheGradientAnew, "the backward pass draws another mask", (DIFFERENCES,)),
    Mutant(HidesAFactor, "B is no parameter", (ONLY, "trains-the-closed-form", "state-dict-restores", "moves-as-one")),
)
