"""What a check is: one known way to train wrongly, and how to see it.

A check's function looks at an ``Evidence`` and returns all that it finds; an empty result means sound. Where a recipe
gives it nothing to look at it raises ``NotApplicable`` with the reason, which is counted and never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..codec import Record

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..recipe import Recipe

Theme = Literal[
    "parameters", "optimizer", "schedule", "loss", "labels", "equivalence", "resume", "data", "mode", "adapter",
    "saving", "memory", "learning", "conduct", "distributed",
]  # fmt: skip
Cost = Literal["reading", "model", "training"]
Applies = Literal["any", "full", "adapter"]

THEMES: tuple[Theme, ...] = Theme.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Finding(Record):
    """One thing that is wrong. ``summary`` is one line, numbers first; ``evidence`` further lines with numbers.

    ``cause`` says what most likely brought it about and ``remedy`` what to change, a line each.
    """

    summary: str
    cause: str
    remedy: str
    evidence: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The finding as it is printed: summary, evidence, likely cause, remedy."""
        return [
            self.summary,
            *(f"  {line}" for line in self.evidence),
            f"  likely cause: {self.cause}",
            f"  remedy: {self.remedy}",
        ]


@dataclass(frozen=True)
class Sabotage:
    """A way to break a recipe: the negative control of the checks that must notice it.

    ``apply`` returns a broken copy of any recipe. ``method`` is what it breaks: "any", "full" or "adapter".
    """

    id: str
    breaks: str
    apply: Callable[[Recipe], Recipe]
    method: Applies = "any"


@dataclass(frozen=True)
class Check:
    """One entry of the catalogue.

    ``claim`` is what a sound training satisfies, in one line; ``catches`` links to bugs that it finds. ``applies`` is
    the kind of method it is about, ``needs`` what else it needs ("gpu", "transformers", ...). ``cost``: "reading" looks
    at the one short training that all checks share, "model" builds models, "training" trains again.
    """

    id: str
    theme: Theme
    claim: str
    function: Callable[[Evidence], Iterable[Finding]]
    controls: tuple[Sabotage, ...]
    catches: tuple[str, ...] = ()
    applies: Applies = "any"
    needs: tuple[str, ...] = ()
    cost: Cost = "reading"


_REGISTERED: dict[str, Check] = {}


def check(
    id: str,
    theme: Theme,
    claim: str,
    *,
    controls: Sequence[Sabotage],
    catches: Sequence[str] = (),
    applies: Applies = "any",
    needs: Sequence[str] = (),
    cost: Cost = "reading",
) -> Callable[[Callable[[Evidence], Iterable[Finding]]], Callable[[Evidence], Iterable[Finding]]]:
    """Register the decorated function as the check called ``id``."""

    def register(function: Callable[[Evidence], Iterable[Finding]]) -> Callable[[Evidence], Iterable[Finding]]:
        known = _REGISTERED.get(id)
        assert known is None or known.function.__module__ == function.__module__, f"two checks are called {id}"
        _REGISTERED[id] = Check(
            id, theme, claim, function, tuple(controls), tuple(catches), applies, tuple(needs), cost
        )
        return function

    return register


def registered() -> dict[str, Check]:
    """Every check whose module has been imported, by id; ``catalogue()`` imports them all."""
    return _REGISTERED
