"""Mistakes in how a layer is a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..mutant import Mutant
from ..reference import Factors, ReferenceLayer

COUNT, STATE, COPIES = "trains-the-closed-form", "state-dict-restores", "copies-share-nothing"
MOVES, LEARNS = "moves-as-one", "learns-what-it-is-taught"


class AIsNotSaved(ReferenceLayer):
    """A is a buffer that is left out of state dicts, as one that is never trained could be."""

    class factors_type(Factors):  # noqa: N801 - the name that a layer knows it by
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            a = self.a.detach().clone()
            del self.a
            self.register_buffer("a", a, persistent=False)


class OutOfTheStateDict(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            state = super().state_dict(*args, **kwargs)
            for name in [name for name in state if name.endswith(".b")]:
                state[name] = state[name] * 0
            return state


class ClosesOverItself(ReferenceLayer):
    """A function that was made with the layer, and stays its own in a copy."""

    def __init__(self, base: Any, config: Any) -> None:
        super().__init__(base, config)
        self.compute = lambda x: ReferenceLayer.update(self, x)

    def update(self, x: Tensor) -> Tensor:
        return self.compute(x)


class CopiesShareTheirFactors(ReferenceLayer):
    class factors_type(Factors):  # noqa: N801
        def __deepcopy__(self, memory: Any) -> Factors:
            return self


class StaysInItsPrecision(ReferenceLayer):
    def down(self, x: Tensor) -> Tensor:
        hidden = super().down(x)
        return hidden.float().to(hidden.dtype)


class KeepsACopyOfB(ReferenceLayer):
    """A list keeps what no module's ``to`` reaches."""

    def add(self, name: str, config: Any) -> None:
        super().add(name, config)
        self.dtypes = [self.base.weight.dtype]

    def combine(self, output: Tensor, update: Tensor) -> Tensor:
        return super().combine(output, update).to(self.dtypes[0])


class TrainsAGate(ReferenceLayer):
    """A number in front of the update, which the declaration does not know."""

    class factors_type(Factors):  # noqa: N801
        def __init__(self, base: Any, config: Any) -> None:
            super().__init__(base, config)
            self.gate = nn.Parameter(self.a.new_ones(()))

    def update(self, x: Tensor) -> Tensor:
        return super().update(x) * self.current.gate  # type: ignore[operator]


class ChangesTheBaseInTraining(ReferenceLayer):
    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        self.base.weight.data.mul_(1.0001)
        return output


class LearnsNothing(ReferenceLayer):
    def update(self, x: Tensor) -> Tensor:
        update = super().update(x)
        return update.detach() + 0 * update


MUTANTS = (
    Mutant(TrainsAGate, "a gate trains too", (COUNT,)),
    Mutant(OutOfTheStateDict, "B is zero in the state dict", (STATE,)),
    Mutant(AIsNotSaved, "A is in no state dict", (STATE, COUNT)),
    Mutant(ClosesOverItself, "a copy computes with the original's factors", (COPIES,)),
    Mutant(CopiesShareTheirFactors, "copies share their factors", (COPIES,)),
    Mutant(StaysInItsPrecision, "A x is always float32", (MOVES,)),
    Mutant(KeepsACopyOfB, "the output has the precision that the layer was made in", (MOVES,)),
    Mutant(ChangesTheBaseInTraining, "each pass changes the base", (LEARNS,)),
    Mutant(LearnsNothing, "the gradient is zero", (LEARNS,)),
)
