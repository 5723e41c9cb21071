"""A number that a training has read and that nobody knows."""

from __future__ import annotations

from typing import Any, NoReturn

from .unsupported import depends_on_values


class UnknownNumber(float):
    """A count of correct tokens, say: it may be logged, added up and averaged, and not decided by.

    Raises PredictionError where a branch, a loop or a shape would depend on it. As an operand of torch it counts as 1.
    """

    def __new__(cls) -> UnknownNumber:
        return super().__new__(cls, 1.0)

    def __format__(self, _: str) -> str:
        return "unknown"

    def __repr__(self) -> str:
        return "unknown"

    def __hash__(self) -> int:
        return id(self)


def _stays_unknown(self: UnknownNumber, *operands: Any) -> Any:
    if all(isinstance(operand, (int, float, type(None))) for operand in operands):
        return UnknownNumber()
    return NotImplemented


def _refuse(self: UnknownNumber, *operands: Any) -> NoReturn:
    raise depends_on_values("what is decided by a number that the training has read")


ARITHMETIC = "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs round"
DECISIONS = "bool lt le gt ge eq ne int index trunc floor ceil"

for _name in ARITHMETIC.split():
    setattr(UnknownNumber, f"__{_name}__", _stays_unknown)
for _name in DECISIONS.split():
    setattr(UnknownNumber, f"__{_name}__", _refuse)
