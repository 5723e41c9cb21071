"""Mistakes in dropout."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..mutant import Mutant
from ..reference import ReferenceLayer

WITHOUT, ONLY, SPARES = "training-without-dropout", "dropout-only-in-training", "dropout-spares-the-base"
DROPS, MEAN = "dropout-drops-and-scales", "dropout-keeps-the-mean"


class DropsInEvaluation(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.current.config.dropout) if x.is_floating_point() else x


class StaysInTraining(ReferenceLayer):
    def train(self, mode: bool = True) -> ReferenceLayer:
        self.once = getattr(self, "once", False) or mode
        super().train(mode)
        return self

    def drop(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return F.dropout(x, self.current.config.dropout, getattr(self, "once", False))


class NeverDrops(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return x


class DropsWhatTheBaseSees(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base(self.drop(x))
        return output if self.merged else self.combine(output, self.up(self.down(x)))


class DropsTheOutput(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return x

    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return F.dropout(super().combine(output, update), self.current.config.dropout, self.training)


class DropsTheHidden(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return x

    def down(self, x: Tensor) -> Tensor:
        return F.dropout(super().down(x), self.current.config.dropout, self.training)


class DoesNotScaleUp(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        dropped = super().drop(x)
        return dropped * (1 - self.current.config.dropout) if self.training and x.is_floating_point() else dropped


class KeepsInsteadOfDropping(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        p = self.current.config.dropout
        return F.dropout(x, 1 - p if p else 0.0, self.training) if x.is_floating_point() else x


class DropsTwice(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        return super().drop(super().drop(x))


class DropsWholeRows(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        if not (self.training and x.is_floating_point()):
            return x
        p = self.current.config.dropout
        kept = (torch.rand(len(x), *(1,) * (x.dim() - 1)) >= p) / (1 - p)
        return x * kept.to(x.dtype)


class KeepsTheMask(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        if not (self.training and x.is_floating_point()):
            return x
        p = self.current.config.dropout
        kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) >= p
        return x * kept.to(x.dtype) / (1 - p)


class DropsAsUsual(ReferenceLayer):
    """A tenth, whatever is declared."""

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1, self.training) if x.is_floating_point() else x


class DrawsWithoutNeed(ReferenceLayer):
    def drop(self, x: Tensor) -> Tensor:
        torch.rand(1)
        return super().drop(x)


MUTANTS = (
    Mutant(DropsInEvaluation, "dropout in evaluation too", (ONLY,)),
    Mutant(StaysInTraining, "the adapter stays in training mode", (ONLY,)),
    Mutant(NeverDrops, "no dropout", (DROPS, MEAN)),
    Mutant(DropsWhatTheBaseSees, "the base's input is dropped", (SPARES,)),
    Mutant(DropsTheOutput, "the output is dropped", (SPARES,)),
    Mutant(DropsTheHidden, "A x is dropped", (DROPS,)),
    Mutant(DoesNotScaleUp, "what is kept is not scaled up", (DROPS, MEAN)),
    Mutant(KeepsInsteadOfDropping, "1 - p for p", (DROPS,)),
    Mutant(DropsTwice, "dropped twice", (DROPS, MEAN)),
    Mutant(DropsWholeRows, "whole rows are dropped", (MEAN,)),
    Mutant(KeepsTheMask, "the mask is always the same", (DROPS,)),
    Mutant(DropsAsUsual, "0.1, whatever is declared", (WITHOUT, DROPS)),
    Mutant(DrawsWithoutNeed, "a random number is drawn with no dropout", (WITHOUT,)),
)
