"""What became of a test that holds something to its baseline."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from .comparison import BAD, Comparison
from .fingerprint import Fingerprint

# In the order in which they are counted.
STATUSES = ("passed", "failed", "no baseline", "not comparable", "accepted", "expected failure", "skipped")


@dataclass(frozen=True)
class Judgement(Record):
    """``status`` is one of STATUSES; ``reason`` says why where the comparisons do not. ``test`` is its node id,
    ``environment`` the class of the environment, ``fingerprint`` the environment itself, where something was seen, and
    ``accept`` the command that accepts what is seen.
    """

    test: str
    environment: str
    status: str
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""
    accept: str = ""
    fingerprint: Fingerprint | None = None

    def those(self, *verdicts: str) -> tuple[Comparison, ...]:
        """The comparisons with one of ``verdicts``."""
        return tuple(comparison for comparison in self.comparisons if comparison.verdict in verdicts)

    @property
    def headline(self) -> str:
        """The first thing to say of it, one line."""
        bad = self.those(*BAD) or self.those("stale") if self.status == "failed" else ()
        return bad[0].line if bad else self.reason.split("\n")[0] or self.status
