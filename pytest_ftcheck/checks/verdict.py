"""What became of a check on one method of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from .check import Finding

# "blocked": the training to look at did not run, which is a failure. "stale": expected to fail, and passed.
FAILURES = ("failed", "blocked", "stale", "error")
STATUSES = ("passed", "not applicable", "expected failure", *FAILURES)

# A verdict is read on a screen.
MOST_LINES = 24


@dataclass(frozen=True)
class Verdict(Record):
    """``status`` is one of STATUSES; ``reason`` says why where it is not "passed" or "failed"."""

    check: str
    theme: str
    method: str
    claim: str
    status: str
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    links: tuple[str, ...] = ()
    seconds: float = 0.0
    recipe: str = ""

    @property
    def id(self) -> str:
        """``full-labels-shifted-once``: the check and the method that it was tried on."""
        return f"{self.method}-{self.check}"

    @property
    def failed(self) -> bool:
        """Whether it turns a build red."""
        return self.status in FAILURES

    @property
    def applies(self) -> bool:
        """Whether there was something to look at."""
        return self.status != "not applicable"

    @property
    def headline(self) -> str:
        """The first line of the first finding, or of the reason, or the status."""
        return self.lines()[0]

    def lines(self) -> list[str]:
        """What was found, numbers first, with cause, remedy, claim and links; as many findings as fit on a screen."""
        if not self.findings:
            return (self.reason or self.status).splitlines()
        tail = [f"  claim: {self.claim}"]
        tail += [f"  see: {' '.join(self.links[:2])}"] if self.links else []
        tail += [f"  {self.reason}"] if self.reason else []
        shown = self.findings[0].lines()[: MOST_LINES - len(tail)]
        for index, finding in enumerate(self.findings[1:], start=1):
            lines = finding.lines()
            if len(shown) + len(lines) + len(tail) >= MOST_LINES:
                shown.append(f"and {len(self.findings) - index} more, such as: {finding.summary}")
                break
            shown += lines
        return [*shown, *tail]

    def __str__(self) -> str:
        """The verdict as it is read: which check, on which method, and what it found."""
        first, *others = self.lines()
        status = "" if self.findings or first == self.status else f"{self.status}: "
        return "\n".join([f"{self.check} ({self.method}): {status}{first}", *others])
