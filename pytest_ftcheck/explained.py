"""Numbers and words that remember what they were taken from, so that a plain ``assert`` can say why it failed.

``assert run.parameters.trainable == 294_912`` compares two whole numbers; pytest's hook for assertion texts is handed
just these two. A ``Count`` is an ``int`` in every respect, and carries the record to explain itself by.
"""

from __future__ import annotations

from typing import Any


class Count(int):
    """A whole number of ``what`` in the record ``subject``."""

    what: str
    subject: Any

    def __new__(cls, value: int, what: str, subject: Any) -> Count:
        self = super().__new__(cls, value)
        self.what, self.subject = what, subject
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return int(self), self.what, self.subject


class Ratio(float):
    """A quotient called ``what`` of the two arms of ``subject``."""

    what: str
    subject: Any

    def __new__(cls, value: float, what: str, subject: Any) -> Ratio:
        self = super().__new__(cls, value)
        self.what, self.subject = what, subject
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return float(self), self.what, self.subject


class Winner(str):
    """``"full"``, ``"lora"`` or ``"undecided"``, as the ordering ``subject`` has it."""

    subject: Any

    def __new__(cls, value: str, subject: Any) -> Winner:
        self = super().__new__(cls, value)
        self.subject = subject
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.subject


class Findings(tuple[str, ...]):
    """Findings, one line each, whose representation begins with how many there are: pytest cuts what is long."""

    def __repr__(self) -> str:
        return f"{len(self)} found: " + "; ".join(self) if self else "()"
