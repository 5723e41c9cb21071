"""The subjects of the stack audit: what is examined, each under an id that stays."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

from ..checks.verdict import Verdict


class Subject(Protocol):
    """One thing that the installed releases must do. ``examine`` returns all verdicts; what the releases cannot do is
    "not applicable" with a reason, and never a pass.
    """

    @property
    def id(self) -> str: ...

    @property
    def claim(self) -> str: ...

    @property
    def links(self) -> tuple[str, ...]: ...

    def examine(self, seed: int = 0) -> list[Verdict]: ...


@functools.cache
def subjects() -> Sequence[Subject]:
    """Everything that the audit examines, cheapest first; the same in every process. Imports no torch."""
    from .hashing import HASH_SEEDS
    from .probe import probes
    from .training import trainings

    return (*probes(), HASH_SEEDS, *trainings())
