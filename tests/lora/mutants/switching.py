"""Mistakes in disabling, adding and switching adapters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..mutant import Mutant
from ..reference import Factors, ReferenceAdapter, ReferenceLayer

DISABLED, ADDED, SELECTS = "disabled-is-the-base", "another-adapter-changes-nothing", "switching-selects"
SHARE, TRAINS = "adapters-share-nothing", "only-the-active-trains"


class DisablesInEvaluationOnly(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.enabled or not self.training else self.combine(self.base(x), self.update(x))


class DisablesHalf(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return output if self.enabled else output + 1e-3 * self.update(x)


class StaysDisabledAfterAnError(ReferenceAdapter):
    @contextlib.contextmanager
    def disabled(self, wrapped: Any) -> Iterator[None]:
        wrapped.enabled = False
        yield
        wrapped.enabled = True


class TheNewOneIsActive(ReferenceLayer):
    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        self.active = name


class TheNewOneResetsTheOld(ReferenceLayer):
    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        for factors in self.adapters.values():
            nn.init.zeros_(factors.b)  # type: ignore[arg-type]


class TheNewConfigIsForAll(ReferenceLayer):
    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        for factors in self.adapters.values():
            factors.config = config


class SwitchesTheFactorsAlone(ReferenceLayer):
    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        first: Any = self.adapters["default"]
        return output + update * first.scaling()


class AddsUpAllAdapters(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        output, active = self.base(x), self.active
        for name in self.adapters:
            self.active = name
            output = self.combine(output, self.update(x))
        self.active = active
        return output


class AlwaysTheFirst(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        active, self.active = self.active, "default"
        output = self.up_first(super().down(x))
        self.active = active
        return output

    def up_first(self, hidden: Tensor) -> Tensor:
        return super().up(hidden)

    def up(self, hidden: Tensor) -> Tensor:
        return hidden


class SharesTheFactors(ReferenceLayer):
    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        first, added = (self.adapters[one] for one in ("default", name))
        if first.a.shape == added.a.shape:  # type: ignore[union-attr]
            added.a, added.b = first.a, first.b


class SharesB(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801 - the name that a layer knows it by
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            kept = base.__dict__.setdefault("kept", {})
            self.b.data = kept.setdefault(self.b.shape, self.b.data)


class TheNewOneIsFrozen(ReferenceLayer):
    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        self.adapters[name].requires_grad_(name == "default")


def _right(name: str) -> type[ReferenceLayer]:
    return type(name, (ReferenceLayer,), {})


MUTANTS = (
    Mutant(DisablesInEvaluationOnly, "disabled in evaluation only", (DISABLED,)),
    Mutant(DisablesHalf, "a part of the update is left when disabled", (DISABLED,)),
    Mutant(_right("StaysDisabledAfterAnError"), "an error leaves it disabled", (DISABLED,), StaysDisabledAfterAnError),
    Mutant(TheNewOneIsActive, "a new adapter is active at once", (ADDED,)),
    Mutant(TheNewOneResetsTheOld, "a new adapter resets B", (ADDED, SHARE)),
    Mutant(TheNewConfigIsForAll, "a new adapter's scaling is for all", (ADDED, SELECTS)),
    Mutant(SwitchesTheFactorsAlone, "the first one's scaling is for all", (SELECTS,)),
    Mutant(AddsUpAllAdapters, "all adapters are added up", (SELECTS, TRAINS)),
    Mutant(AlwaysTheFirst, "the first one is always in force", (SELECTS, TRAINS)),
    Mutant(SharesTheFactors, "adapters of one shape are one", (SHARE,)),
    Mutant(SharesB, "B of one shape is one", (SHARE,)),
    Mutant(TheNewOneIsFrozen, "the second one does not train", (TRAINS,)),
)
