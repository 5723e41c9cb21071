"""Mistakes in what an adapted layer computes."""

from __future__ import annotations

from torch import Tensor

from ..mutant import Mutant
from ..reference import ReferenceLayer


class Subtracts(ReferenceLayer):
    def update(self, x: Tensor) -> Tensor:
        return -super().update(x)


MUTANTS = (Mutant(Subtracts, "the update is subtracted", ("output-is-base-plus-update",)),)
