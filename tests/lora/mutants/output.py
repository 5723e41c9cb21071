"""Mistakes in what an adapted layer computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mutant import Mutant
from ..reference import Factors, ReferenceLayer

OUTPUT, LIKE, SAME = "output-is-base-plus-update", "output-is-like-the-bases", "forward-changes-nothing"
ZERO, RANK, NOW = "zero-b-is-the-base", "factors-have-the-rank", "follows-its-factors"


class Subtracts(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return output - update * self.current.scaling()


class AddsTwice(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(super().combine(output, update), update)


class LeavesOutTheBase(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return update * self.current.scaling()


class LeavesOutTheUpdate(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return output


class ScalesTheBaseToo(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return (output + update) * self.current.scaling()


class AddsTheBiasTwice(ReferenceLayer):
    def up(self, hidden: Tensor) -> Tensor:
        output = super().up(hidden)
        bias = getattr(self.base, "bias", None)
        return output if bias is None else output + bias.view(-1, *(1,) * (len(getattr(self.base, "kernel_size", ()))))


class FeedsTheUpdateTheOutput(ReferenceLayer):
    """B A is put behind the base, and not beside it."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base(x)
        return output + self.update(output) * self.current.scaling()


class TakesTheLastRowForAll(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        return super().down(x)[-1:].expand(len(x), *[-1] * (super().down(x).dim() - 1))


class SkipsARank(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        hidden = super().down(x)
        kept = torch.ones_like(hidden)
        channels = hidden.dim() - 1 - len(getattr(self.base, "kernel_size", ()))
        kept.select(channels, hidden.shape[channels] - 1).zero_()
        return hidden * kept


class OffByOnePercent(ReferenceLayer):
    def up(self, hidden: Tensor) -> Tensor:
        return super().up(hidden) * 1.01


class ComputesInBfloat16(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        return super().down(x).bfloat16().to(self.a.dtype)


class RoundsTheFactors(ReferenceLayer):
    @property
    def a(self) -> Tensor:
        return self.current.a.half().to(self.current.a.dtype)


class ReturnsSinglePrecision(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output.float(), update.float())


class DropsADimension(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update).squeeze(0)


class AssumesContiguousInputs(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.as_strided(x, x.shape, torch.empty(x.shape).stride()))


class ScalesTheInputInPlace(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return super().forward(x)
        output: Tensor = self.base(x)
        return output + self.update(x.mul_(self.current.scaling()))


class ScalesAFactorInPlace(ReferenceLayer):
    def up(self, hidden: Tensor) -> Tensor:
        output = super().up(hidden).clone()
        self.current.b.data *= 1.5
        return output


class KeepsTheProduct(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "kept"):
            self.kept = self.current.a.detach().clone(), self.current.b.detach().clone()
        return super().forward(x)

    @property
    def a(self) -> Tensor:
        return getattr(self, "kept", (self.current.a,))[0]


class KeepsTheFactorOfEvaluation(ReferenceLayer):
    @property
    def b(self) -> Tensor:
        if self.training or torch.is_grad_enabled() is False:
            return self.current.b
        if not hasattr(self, "kept"):
            self.kept = self.current.b.detach().clone()
        return self.kept


class AddsNoiseAtZero(ReferenceLayer):
    def up(self, hidden: Tensor) -> Tensor:
        return super().up(hidden) + 1e-3


class ClampsTheOutput(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update).clamp(-1, 1)


class OneRankLess(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801 - the name that a layer knows it by
        def shapes(self, base: Any, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
            groups = getattr(base, "groups", 1)
            return super().shapes(base, max(r - groups, groups))


class FactorsTheOtherWayRound(ReferenceLayer):
    """A: (inputs, r) and B: (r, outputs), which is told as if it were not."""

    class factors_type(Factors):  # noqa: N801
        def shapes(self, base: Any, r: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
            a, b = super().shapes(base, r)
            return (a, b) if len(a) > 2 else (a[::-1], b[::-1])

    def down(self, x: Tensor) -> Tensor:
        if self.a.dim() > 2:
            return super().down(x)
        return F.embedding(x, self.a) if isinstance(self.base, nn.Embedding) else x @ self.a

    def up(self, hidden: Tensor) -> Tensor:
        return super().up(hidden) if self.b.dim() > 2 else hidden @ self.b


class StartsWithNaN(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def start(self) -> None:
            super().start()
            self.a.data[0] = float("nan")


class StartsAtZero(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def start(self) -> None:
            nn.init.zeros_(self.a)
            nn.init.zeros_(self.b)


class ChangesTheBaseWhenItWraps(ReferenceLayer):
    def __init__(self, base: Any, config: Any) -> None:
        super().__init__(base, config)
        self.base.weight.data.mul_(1 + config.r * 1e-2)


MUTANTS = (
    Mutant(Subtracts, "the update is subtracted", (OUTPUT,)),
    Mutant(AddsTwice, "the update is added twice", (OUTPUT,)),
    Mutant(LeavesOutTheBase, "the base's output is lost", (OUTPUT, ZERO, "starts-as-the-base")),
    Mutant(LeavesOutTheUpdate, "the update is lost", (OUTPUT, NOW)),
    Mutant(ScalesTheBaseToo, "the base's output is scaled", (OUTPUT, ZERO)),
    Mutant(AddsTheBiasTwice, "the bias is in the update too", (OUTPUT, ZERO, "starts-as-the-base")),
    Mutant(FeedsTheUpdateTheOutput, "A sees the base's output", (OUTPUT,)),
    Mutant(TakesTheLastRowForAll, "every row has the last row's update", (OUTPUT,)),
    Mutant(SkipsARank, "the last rank is left out", (OUTPUT,)),
    Mutant(OffByOnePercent, "the update is off by 1 %", (OUTPUT, NOW)),
    Mutant(ComputesInBfloat16, "A x is rounded to bfloat16", (OUTPUT,)),
    Mutant(RoundsTheFactors, "A is rounded to float16", (OUTPUT,)),
    Mutant(ReturnsSinglePrecision, "the output is float32", (LIKE,)),
    Mutant(DropsADimension, "a batch of one loses its dimension", (LIKE,)),
    Mutant(AssumesContiguousInputs, "the strides of the input are not looked at", (LIKE,)),
    Mutant(ScalesTheInputInPlace, "the input is scaled in place", (SAME,)),
    Mutant(ScalesAFactorInPlace, "B is scaled in place", (SAME,)),
    Mutant(KeepsTheProduct, "A is that of the first pass", (NOW,)),
    Mutant(KeepsTheFactorOfEvaluation, "B is kept in evaluation", (NOW,)),
    Mutant(AddsNoiseAtZero, "a constant is added", (ZERO, OUTPUT)),
    Mutant(ClampsTheOutput, "the output is clamped", (OUTPUT, ZERO)),
    Mutant(OneRankLess, "one rank less than declared", (RANK,)),
    Mutant(FactorsTheOtherWayRound, "the factors lie the other way round", (RANK,)),
    Mutant(StartsWithNaN, "NaN in A", ("can-start-to-train",)),
    Mutant(StartsAtZero, "both factors start at zero", ("can-start-to-train", "one-factor-starts-at-zero")),
    Mutant(ChangesTheBaseWhenItWraps, "the base's weight is scaled when it is wrapped", ("starts-as-the-base",)),
)
