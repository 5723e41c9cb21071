"""Trying an implementation against a property: hypothesis draws the cases and shrinks what fails."""

from __future__ import annotations

import time
import traceback
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky, Unsatisfiable

from ..checks.check import Finding
from ..checks.verdict import Verdict
from ..content import is_installed
from ..errors import NotApplicable
from ..failures import one_line
from .adapter import Adapter
from .bases.random import seeded
from .profiles import chosen_profile
from .property import Case, Deviation, Property


class _Wrong(Exception):  # noqa: N818 - no error of ours
    """A case that fails, which hypothesis makes smaller."""

    def __init__(self, case: Case, deviation: Deviation) -> None:
        super().__init__(deviation.summary)
        self.case, self.deviation = case, deviation


def try_property(
    property: Property,
    adapter: Adapter,
    *,
    expected: str | None = None,
    seed: int | None = None,
    settings: hypothesis.settings | None = None,
) -> Verdict:
    """Hold ``adapter`` to ``property`` on every kind of layer that both are about.

    ``seed`` draws other cases; ``settings`` are hypothesis's, by default those of the profile that is loaded where it
    is one of ours or the user's own, and else those of "ftcheck-ci". ``expected`` is the reason why it should fail.
    """
    start = time.perf_counter()
    findings: list[Finding] = []
    reasons = dict.fromkeys(_why_not(property, adapter))
    applied = False
    for kind in [] if reasons else property.kinds:
        if kind not in adapter.kinds:
            continue
        trial = _Trial(property, adapter, kind)
        try:
            findings += trial.findings(seed, settings or chosen_profile())
            applied = True
        except NotApplicable as error:
            trial.refused = {str(error): None}
        reasons.update({f"{kind}: {reason}": None for reason in trial.refused})
    if not (applied or reasons):
        reasons[f"{adapter.name} adapts {', '.join(adapter.kinds)}; this is about {', '.join(property.kinds)}"] = None
    status, reason = _status(findings, applied, "; ".join(reasons), expected)
    return Verdict(
        property.id, "lora", adapter.name, property.claim, status, tuple(findings), reason,
        (property.source,), time.perf_counter() - start,
    )  # fmt: skip


def _why_not(property: Property, adapter: Adapter) -> Iterator[str]:
    missing = [need for need in property.needs if not adapter.can(need)]
    if missing:
        yield f"{adapter.name} has no {', '.join(missing)}"
    unknown = [feature for feature in property.features if feature not in adapter.features]
    if unknown:
        yield f"{adapter.name} does not know {', '.join(unknown)}"


def _status(findings: list[Finding], applied: bool, reason: str, expected: str | None) -> tuple[str, str]:
    if not applied:
        return "not applicable", reason
    if expected is None:
        return ("failed", "") if findings else ("passed", f"not tried: {reason}" if reason else "")
    return ("expected failure", expected) if findings else ("stale", f"passes, and is expected to fail: {expected}")


# So many cases are refused before an adapter is taken to refuse all of a kind: hypothesis would go on for ten times as
# many as it was to try.
PATIENCE = 25


class _Trial:
    """A property on one kind of layer. ``refused`` are the reasons of the cases that were not tried, as keys."""

    def __init__(self, property: Property, adapter: Adapter, kind: str) -> None:
        self.property, self.adapter, self.kind = property, adapter, kind
        self.refused: dict[str, None] = {}
        self.refusals = self.tried = 0
        self.first_wrong: _Wrong | None = None

    def findings(self, seed: int | None, settings: hypothesis.settings) -> list[Finding]:
        """What is wrong with the smallest case that fails; empty where none does. Raises NotApplicable."""
        unknown = [feature for feature in self.property.features if not self.adapter.knows(feature, self.kind)]
        if unknown:
            raise NotApplicable(f"{self.adapter.name} does not know {', '.join(unknown)} there")

        # What it prints, a verdict says better; what it would explain takes four times as long as shrinking.
        quiet = hypothesis.settings(
            settings,
            verbosity=Verbosity.quiet,
            print_blob=False,
            report_multiple_bugs=False,
            phases=[phase for phase in settings.phases if phase != Phase.explain],
        )

        @hypothesis.settings(quiet, suppress_health_check=[*HealthCheck])
        @hypothesis.given(case=self.property.cases(self.kind, self.adapter))
        def hold(case: Case) -> None:
            self._hold(case)

        if seed is not None or settings.derandomize:
            # Without it, every property would be tried on the same numbers.
            hypothesis.seed(zlib.crc32(f"{self.property.id} {self.kind} {seed}".encode()))(hold)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                hold()
        except Unsatisfiable as error:
            self.refused.setdefault(one_line(error))
        except _Wrong as wrong:
            return [_finding(self.property, self.kind, wrong)]
        except Flaky:
            # What draws from a generator of its own is not wrong each time, but was.
            assert self.first_wrong is not None
            return [_finding(self.property, self.kind, self.first_wrong)]
        if not self.tried:
            raise NotApplicable("; ".join(self.refused))
        return []

    def _hold(self, case: Case) -> None:
        try:
            with seeded(zlib.crc32(str(case).encode())):
                deviation = next(self.property.function(case.subject(self.adapter)), None)
        except NotApplicable as error:
            self.refused[str(error)] = None
            self.refusals += 1
            if self.tried or self.refusals < PATIENCE:
                hypothesis.reject()
            return
        except Exception as error:
            deviation = _raised(error)
        self.tried += 1
        if deviation is not None:
            wrong = _Wrong(case, deviation)
            self.first_wrong = self.first_wrong or wrong
            raise wrong


def _raised(error: Exception) -> Deviation:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed(Path(frame.filename).resolve())] or frames
    return Deviation(f"raised {one_line(error)}", f"see {own[-1].filename}:{own[-1].lineno}")


def _finding(property: Property, kind: str, wrong: _Wrong) -> Finding:
    return Finding(
        wrong.deviation.summary,
        wrong.deviation.cause or property.cause,
        f"make it hold that {property.formula}",
        (f"on {wrong.case}, the smallest case of kind {kind!r} that was found",),
    )


def verdicts_of(adapter: Adapter, properties: list[Property], **options: Any) -> list[Verdict]:
    """``try_property`` for each of ``properties``."""
    return [try_property(one, adapter, **options) for one in properties]
