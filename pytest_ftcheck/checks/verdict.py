"""What became of a check on one method of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from .check import Finding

# "blocked": the training that the check looks at did not run, which is a failure. "stale": expected to fail, and passed.
FAILURES = ("failed", "blocked", "stale", "error")
STATUSES = ("passed", "not applicable", "expected failure", *FAILURES)


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

    @property
    def failed(self) -> bool:
        return self.status in FAILURES

    def __str__(self) -> str:
        """The verdict as it is read: a headline, and the findings with cause, remedy and links."""
        head = f"{self.check} ({self.method}): {self.status}"
        if not self.findings:
            return f"{head}: {self.reason}" if self.reason else head
        lines = [line for finding in self.findings for line in finding.lines()]
        lines[0] = f"{self.check} ({self.method}): {lines[0]}"
        tail = [f"  claim: {self.claim}"]
        tail += [f"  see: {' '.join(self.links[:2])}"] if self.links else []
        tail += [f"  {self.reason}"] if self.reason else []
        return "\n".join([*lines, *tail])
