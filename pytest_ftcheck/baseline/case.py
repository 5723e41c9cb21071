"""One test and its baseline: what it has held to it so far, and what there is to say in the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..acceptance import TWICE, Acceptance
from ..errors import AcceptanceError, RecipeError
from .calibration import is_measured, summarised
from .comparison import BAD, Comparison, of_missing
from .entry import Entry
from .fingerprint import Fingerprint
from .gate import Recorded, compare
from .metric import Metric
from .rules import OF_A_MACHINE, Tolerances
from .store import BaselineFile, baseline_files

Metrics = tuple[Metric, ...]
Files = Callable[[Path, str], BaselineFile]


@dataclass(frozen=True)
class Seen:
    """What a test shows: the metrics, where they were seen, how to tell a digest of the code ("" if unknown), and how
    to see them again (None: they cannot be).
    """

    metrics: Metrics
    fingerprint: Fingerprint
    code: Callable[[], str] | None = None
    again: Callable[[], Metrics] | None = None


@dataclass
class Case:
    """The test called ``test`` in the files of ``folder``. With ``leave`` what is seen is accepted."""

    test: str
    folder: Path
    leave: Acceptance | None = None
    stale_fails: bool = False
    files: Files = BaselineFile
    comparisons: list[Comparison] = field(default_factory=list)
    accepted: dict[str, Metric] = field(default_factory=dict)
    codes: list[Callable[[], str]] = field(default_factory=list)
    fingerprint: Fingerprint | None = None
    _seen: dict[str, Metric] = field(default_factory=dict)
    _file: BaselineFile | None = None

    def hold(self, seen: Seen, tolerances: Tolerances) -> list[Comparison]:
        """Hold what is seen to its baseline, or accept it. Returns what there is to complain of. Raises RecipeError for
        a metric that the test has twice, AcceptanceError, and RecordError for a damaged file.
        """
        fresh = self._noted(seen)
        tolerances.refuse_wrong(seen.metrics)
        entry = self.entry
        known = entry.metrics if entry else {}
        taken = {m.name for m in fresh if self.leave and not (self.leave.new_only and m.name in known)}
        if taken:
            self._accept([m for m in fresh if m.name in taken], seen)
            self._keep_times(entry, seen.fingerprint, tolerances)
        held = tuple(m for m in fresh if m.name not in taken)
        found = self._compared(entry, held, seen.fingerprint, tolerances)
        self.comparisons += found
        return [c for c in found if self._is_bad(c)]

    def unmeasured(self) -> list[Comparison]:
        """Baselines of what the test no longer measures, unless they are about to be replaced."""
        if self.entry is None or (self.leave and not self.leave.new_only):
            return []
        found = [of_missing(m) for name, m in self.entry.metrics.items() if name not in self._seen]
        self.comparisons += found
        return found

    @property
    def entry(self) -> Entry | None:
        return self.file.entry(self.test)

    @property
    def file(self) -> BaselineFile:
        assert self._file is not None
        return self._file

    @property
    def environment(self) -> str:
        return self.fingerprint.environment_class if self.fingerprint else ""

    @property
    def status(self) -> str:
        """One of the judgement's, as far as the comparisons say."""
        verdicts = {c.verdict for c in self.comparisons}
        if any(map(self._is_bad, self.comparisons)):
            return "failed"
        if "new" in verdicts:
            return "no baseline"
        if verdicts == {"not comparable"} and not self.accepted:
            return "not comparable"
        return "accepted" if self.accepted else "passed"

    @property
    def code(self) -> str:
        """One digest of the code and data of all that the test was shown; "" where that cannot be told."""
        try:
            return joined([code() for code in self.codes])
        except RecipeError:  # a run that is not of this recipe
            return ""

    def attribution(self) -> str:
        """What has changed since the baseline was accepted: the environment, the code, or neither."""
        entry = self.entry
        if entry is None or self.fingerprint is None:
            return ""
        changes = entry.fingerprint.changes(self.fingerprint)
        code = self.code
        if entry.code and code:
            changes += ["the recipe's code or data"] if entry.code != code else []
            rest = "" if entry.code != code else "; the recipe's code and data are the same"
            return ("changed since: " + ", ".join(changes) if changes else "the environment is the same") + rest
        return ("changed since: " if changes else "") + (", ".join(changes) or "the environment is the same")

    def _noted(self, seen: Seen) -> Metrics:
        """The metrics that the test has not shown before; those that it has must be the same."""
        now = seen.fingerprint.environment_class
        if self.fingerprint is None:
            self.fingerprint = seen.fingerprint
            self._file = self.files(self.folder, now)
        if now != self.environment:
            raise RecipeError(f"one test was given runs of {self.environment} and of {now}; allowed: one environment")
        fresh = []
        for metric in seen.metrics:
            known = self._seen.get(metric.name)
            if known is not None and known != metric:
                raise RecipeError(f"two metrics of the test are called {metric.name!r}; allowed: one (give it a name=)")
            if known is None:
                self._seen[metric.name] = metric
                fresh.append(metric)
        if seen.code is not None:
            self.codes.append(seen.code)
        return tuple(fresh)

    def _compared(
        self, entry: Entry | None, held: Metrics, now: Fingerprint, tolerances: Tolerances
    ) -> tuple[Comparison, ...]:
        if entry is not None:
            return compare(Recorded(entry.metrics, entry.fingerprint), held, now, tolerances)
        found = compare(Recorded({}, now), held, now, tolerances)
        others = self._others()
        if not others:
            return found
        note = f"recorded for {', '.join(others)}, and not for {self.environment}"
        return tuple(replace(c, verdict="not comparable", note=note) for c in found)

    def _others(self) -> list[str]:
        """Other environments that have a baseline of this test."""
        others = [file for file in baseline_files(self.folder) if file.path != self.file.path]
        return [file.environment for file in others if self.test in file.tests()]

    def _accept(self, metrics: list[Metric], seen: Seen) -> None:
        assert self.leave is not None
        for metric in metrics:
            if not metric.finite:
                raise AcceptanceError(f"not accepted: {metric.name} is not finite")
            if metric.unlike:
                raise AcceptanceError(f"not accepted: {metric.name} is {metric.unlike}")
        repeats = [tuple(metrics)]
        if seen.again is not None:
            names = {m.name for m in metrics}
            repeats = self.leave.confirmed(
                "the training",
                tuple(metrics),
                lambda: tuple(m for m in seen.again() if m.name in names) if seen.again else (),
                lambda one, other: self._differences(one, other, seen.fingerprint),
            )
        found = summarised(repeats, derive=self.leave.repeats > TWICE)
        self.accepted |= {metric.name: metric for metric in found}

    def _keep_times(self, entry: Entry | None, now: Fingerprint, tolerances: Tolerances) -> None:
        """Times are never twice the same: those that are within their tolerance stay as they were recorded."""
        assert self.leave is not None
        if entry is None or self.leave.repeats > TWICE:
            return
        times = tuple(m for name, m in self.accepted.items() if m.kind in OF_A_MACHINE and name in entry.metrics)
        found = compare(Recorded(entry.metrics, entry.fingerprint), times, now, tolerances)
        self.accepted |= {c.metric: entry.metrics[c.metric] for c in found if c.verdict == "passed"}

    def _differences(self, one: Metrics, other: Metrics, now: Fingerprint) -> Sequence[str]:
        """What is not the same in a repetition; with calibration, only of what must not differ at all."""
        assert self.leave is not None
        calibrates = self.leave.repeats > TWICE
        looked_at = tuple(m for m in other if not (m.kind in OF_A_MACHINE or (calibrates and is_measured(m))))
        recorded = Recorded({m.name: m for m in one}, now)
        found = compare(recorded, looked_at, now, Tolerances({}))
        advice = "" if calibrates else " (where that is its nature: --ftcheck-calibrate=N)"
        # An order that is only just decided may come out undecided; what is far better is as much of a difference.
        return [c.line + advice for c in found if c.verdict not in ("passed", "warning")]

    def _is_bad(self, comparison: Comparison) -> bool:
        return comparison.verdict in BAD or (comparison.verdict == "stale" and self.stale_fails)


def joined(codes: Sequence[str]) -> str:
    """One digest for several; "" where one of them is not known."""
    text = " ".join(sorted(set(codes)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if codes and all(codes) else ""
