"""What became of the tests that use this plugin, so that a session is not green because it ran nothing.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from . import fixtures
from .options import Settings
from .session import SESSION

# A test that takes one of these, itself or through others, uses the plugin.
FIXTURES = frozenset(name for name in vars(fixtures) if name.lstrip("_").startswith("ft_"))
# In the order of the summary. Those that ran to a verdict; those that a budget of skips counts; the others.
EXECUTED = ("passed", "failed", "no baseline", "expected failure")
UNDECIDED = ("skipped", "not comparable", "unstable")
OTHERS = ("not applicable", "not tried", "error in setup", "crashed", "not reached")
NOTRUN = "[NOTRUN]"  # how pytest's reason for xfail(run=False) begins
NOTHING_THERE = "not applicable: "
MOST_REASONS, LONGEST_REASON = 5, 90


class Fate(NamedTuple):
    """What became of one test: one of the words above, whether it was on a GPU, and why it did not run."""

    status: str
    on_gpu: bool = False
    reason: str = ""


def use_of(item: pytest.Item) -> str | None:
    """Where ``item`` uses the plugin: "gpu" or "cpu"; None if it does not, having neither the marker ``gpu`` nor a
    fixture of the plugin, and being no item of an audit.
    """
    # None when the test has been torn down.
    values = getattr(item, "funcargs", None) or {}
    device = getattr(values.get("ft_run"), "device", None) or values.get("ft_device")
    if item.get_closest_marker("gpu") is not None:
        # If it ran at all: without a GPU it was refused.
        return "cpu" if (device or item.config.stash[SESSION].settings.device) == "cpu" else "gpu"
    if FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) and not getattr(item, "of_ftcheck", False):
        return None
    return "gpu" if str(device).startswith("cuda") else "cpu"


def ours(items: Iterable[pytest.Item]) -> list[str]:
    """The node ids of those that use the plugin."""
    return [item.nodeid for item in items if use_of(item)]


class Tally:
    """The fates of a session's tests, from their reports (of which ``ftcheck_use`` is what ``use_of`` said)."""

    def __init__(self) -> None:
        # By worker and node id: with ``--dist each`` a test has several fates.
        self._fates: dict[tuple[str, str], Fate] = {}
        self._crashed: dict[tuple[str, str], Fate] = {}

    def take(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of a test; the later phase decides."""
        node = getattr(report, "node", None)
        key = (node.gateway.id if node is not None else "", report.nodeid)
        if report.when not in ("setup", "call", "teardown"):
            # xdist's report of a test in which a worker died; it does not say whose test that was.
            self._crashed[key] = Fate("crashed", reason=str(report.longrepr).partition(" while running ")[0])
            return
        use = getattr(report, "ftcheck_use", None)
        status = _status(report)
        if use and status:
            # Skips of checks begin with what the line says already.
            self._fates[key] = Fate(status, use == "gpu", _reason(report).removeprefix(NOTHING_THERE))

    def close(self, selected: Iterable[str]) -> None:
        """Add what there was no report of: ``selected`` are the node ids of all tests that use the plugin."""
        selected = dict.fromkeys(selected)
        known = {id for _, id in self._fates}
        self._fates |= {key: fate for key, fate in self._crashed.items() if key[1] in selected or key[1] in known}
        seen = {id for _, id in self._fates}
        self._fates |= {("", id): Fate("not reached") for id in selected if id not in seen}

    def __bool__(self) -> bool:
        return bool(self._fates)

    def those(self, *statuses: str) -> list[Fate]:
        """The fates that are one of ``statuses``."""
        return [fate for fate in self._fates.values() if fate.status in statuses]

    @property
    def complete(self) -> bool:
        """Whether every test ran to a verdict, or gave a check nothing to look at."""
        return len(self.those(*EXECUTED, "not applicable", "not tried")) == len(self._fates)

    def line(self) -> str:
        """``12 executed (3 on GPU): 11 passed, 1 failed; 2 skipped: no GPU driver on this machine (2)``"""
        executed = self.those(*EXECUTED)
        on_gpu = sum(fate.on_gpu for fate in executed)
        counts = _counts(executed, EXECUTED)
        first = f"{len(executed)} executed" + (f" ({on_gpu} on GPU)" if on_gpu else "") + (counts and f": {counts}")
        return "; ".join([first, *self._left_out(UNDECIDED + OTHERS)])

    def failures(self, settings: Settings, ended_well: bool = True) -> list[str]:
        """A line for each promise of the session's options that was not kept.

        ``ended_well``: nothing else fails the session. Then tests that were not reached count as skipped:
        ``pytest.exit(returncode=0)`` ends a session so.
        """
        most, least = settings.max_skips, settings.min_checks
        silent = (*UNDECIDED, "not reached") if ended_well else UNDECIDED
        executed, undecided = self.those(*EXECUTED), self.those(*silent)
        lines = []
        if most is not None and len(undecided) > most:
            why = "; ".join(self._left_out(silent))
            what = f"{len(undecided)} of {len(self._fates)} tests decided nothing, at most {most} may"
            lines.append(f"{what} (--ftcheck-max-skips={most}): {why}")
        if least is not None and len(executed) < least:
            why = "; ".join(self._left_out(UNDECIDED + OTHERS)) or "no other test uses ftcheck"
            what = f"{len(executed)} tests were executed, at least {least} must be"
            lines.append(f"{what} (--ftcheck-min-checks={least}): {why}")
        return lines

    def _left_out(self, statuses: tuple[str, ...]) -> list[str]:
        found = [(status, self.those(status)) for status in statuses]
        return [f"{len(fates)} {status}{_reasons(fates)}" for status, fates in found if fates]


def _status(report: pytest.TestReport) -> str | None:
    """The fate that a report of one phase decides; None where it decides none."""
    # Of those that are counted apart the third word says it in full: "NO BASELINE" counts as failed.
    word = getattr(report, "ftcheck_status", ("", "", ""))[2].lower()
    if report.when == "teardown":
        return "failed" if report.failed else None
    if report.skipped:
        expected = hasattr(report, "wasxfail") and not str(report.wasxfail).startswith(NOTRUN)
        if expected or word:
            return "expected failure" if expected else word
        return "not applicable" if _reason(report).startswith(NOTHING_THERE) else "skipped"
    if report.when == "setup":
        return "error in setup" if report.failed else "not reached"
    return (word if word == "no baseline" else "failed") if report.failed else "passed"


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped, in short."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
    text = (str(text).strip().splitlines() or [""])[0]
    for start in ("Skipped: ", "ftcheck: ", "not comparable: ", "reason: "):
        text = text.removeprefix(start)
    text = text.replace(NOTRUN, "not run:", 1).removesuffix(":")
    # What to do about it is in the test's own line.
    text = text.partition("; run it on the CPU with ")[0]
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."


def _counts(fates: Iterable[Fate], statuses: tuple[str, ...]) -> str:
    counts = Counter(fate.status for fate in fates)
    return ", ".join(f"{counts[status]} {status}" for status in statuses if counts[status])


def _reasons(fates: list[Fate]) -> str:
    """``: no GPU driver on this machine (2), needs 2 GPUs (1)``, the frequent first."""
    counts = sorted(Counter(fate.reason for fate in fates if fate.reason).items(), key=lambda c: (-c[1], c[0]))
    shown = [f"{reason} ({count})" for reason, count in counts[:MOST_REASONS]]
    more = [f"{len(counts) - MOST_REASONS} more reasons"] if len(counts) > MOST_REASONS else []
    return ": " + ", ".join([*shown, *more]) if shown else ""
