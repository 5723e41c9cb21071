"""The fixture ``ft_baseline``: where a test meets its baseline, and what pytest makes of it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .acceptance import Acceptance
from .baseline.case import Case, Seen, joined
from .baseline.comparison import Comparison
from .baseline.entry import Acceptation, Entry
from .baseline.fingerprint import Fingerprint
from .baseline.judgement import Judgement
from .baseline.metric import recorded
from .baseline.metrics import metrics_of
from .baseline.rules import Tolerances
from .baseline.store import place_of, refuse_unwritable
from .baseline.update import Proposal
from .errors import FtcheckError
from .options import decisive_flags
from .pair import Pair
from .run import Run
from .session import SESSION, Session
from .worktree import commit

if TYPE_CHECKING:
    from .baseline.metrics import Subject
    from .factory import RunFactory

MOST_LINES = 24


class Baseline:
    """What is seen in a test is held to what is recorded of it: ``check`` takes all there is of a run, ``record`` one
    number of the user's own.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._item: pytest.Item = request.node
        self._session: Session = request.config.stash[SESSION]
        folder, test = place(self._item, self._session)
        settings = self._session.settings
        self.case = Case(
            test,
            folder,
            leave=self._session.acceptance(),
            stale_fails=settings.stale == "error",
            files=self._session.baselines,
        )

    def check(self, subject: Subject, *, tolerance: Mapping[str, str] | None = None, name: str = "") -> None:
        """Hold a ``Run``, a ``Pair`` or a ``Prediction`` to its baseline: fails with every metric that is worse.

        ``tolerance`` gives limits, such as ``{"memory.peak_bytes": "2%", "loss": "0.01 nats"}``; ``name`` tells two of
        a kind apart. Where there is no baseline the test fails when it has ended.
        """
        __tracebackhide__ = True
        self._hold(lambda: self._seen(subject, name), {} if tolerance is None else tolerance)

    def record(
        self, name: str, value: Any, *, unit: str = "", direction: str = "same", tolerance: str | None = None
    ) -> None:
        """Hold one number, or the median of several, to its baseline. ``direction`` is which way is better: "lower",
        "higher", or "same" where any change is for the worse. Whole numbers are exact, fractions within 1 %, but for
        a ``tolerance`` such as "2%" or "24 MiB".
        """
        __tracebackhide__ = True
        given = {} if tolerance is None else {name: tolerance}
        self._hold(lambda: Seen((recorded(name, value, unit, direction),), self._here()), given)

    def _hold(self, see: Callable[[], Seen], tolerance: Mapping[str, str]) -> None:
        __tracebackhide__ = True
        try:
            tolerances = Tolerances(tolerance, self._session.settings.tolerance)
            seen = see()
            if self.case.leave:
                refuse_unwritable(self._session.baselines(self.case.folder, seen.fingerprint.environment_class).path)
            bad = self.case.hold(seen, tolerances)
        except FtcheckError as error:
            raise pytest.fail.Exception(f"ftcheck: {error}", pytrace=False) from None
        if bad:
            pytest.fail("\n".join(failure_lines(self.case, bad, self._item)), pytrace=False)

    def _seen(self, subject: Subject, name: str) -> Seen:
        metrics = metrics_of(subject, name)
        runs = _runs(subject)
        if not runs:
            self._session.keep_prediction(subject)  # type: ignore[arg-type]
            return Seen(metrics, self._here(), again=lambda: metrics_of(self._predicted_again(subject), name))
        again = self._again(subject)
        return Seen(
            metrics,
            Fingerprint.of(runs[0].environment),
            lambda: joined([self._factory.code(run) for run in runs]),
            lambda: metrics_of(again(), name),
        )

    def _again(self, subject: Subject) -> Callable[[], Subject]:
        factory = self._factory
        if isinstance(subject, Pair):
            return lambda: Pair(*(tuple(factory.again(run) for run in arm) for arm in (subject.fulls, subject.loras)))
        assert isinstance(subject, Run)
        return lambda: factory.again(subject)

    def _predicted_again(self, subject: Any) -> Subject:
        from .predict import predict_recipe

        return predict_recipe(self._factory.recipe, subject.method, gpu=subject.gpu)

    @property
    def _factory(self) -> RunFactory:
        factory: RunFactory = self._request.getfixturevalue("ft_run")
        return factory

    def _here(self) -> Fingerprint:
        from .environment import current_environment

        return Fingerprint.of(current_environment(self._request.getfixturevalue("ft_device")))


CASE = pytest.StashKey[Case]()


def _runs(subject: Any) -> tuple[Run, ...]:
    if isinstance(subject, Pair):
        return (*subject.fulls, *subject.loras)
    return (subject,) if isinstance(subject, Run) else ()


def place(item: pytest.Item, session: Session) -> tuple[Path, str]:
    """The folder of a test's baselines, and what the test is called in it: its file and name, and nothing that a plugin
    has added to its node id.
    """
    return place_of(item.path, "::".join(names(item)), session.root, session.settings.baseline_dir)


def names(item: pytest.Item) -> list[str]:
    """The names of the classes that a test is in, and its own."""
    return [node.name for node in item.listchain() if isinstance(node, (pytest.Class, pytest.Item))]


def accept_command(item: pytest.Item) -> str:
    """The command that accepts what this test alone sees, to be typed where pytest was started."""
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    id = "::".join([Path(file).as_posix(), *names(item)])
    quoted = shlex.quote(id) if "'" in id else f"'{id}'"
    flags = map(shlex.quote, decisive_flags(item.config))
    return " ".join(["pytest", quoted, *flags, "--ftcheck-update", '--ftcheck-reason="..."'])


def failure_lines(case: Case, found: Sequence[Comparison], item: pytest.Item) -> list[str]:
    """What is wrong, in numbers; what has changed since; and, last, the command that accepts it."""
    first, *others = (comparison.line for comparison in found)
    file = os.path.relpath(case.file.path, item.config.invocation_params.dir)
    entry = case.entry
    tail = [f"  {case.attribution()}"] if entry else []
    tail.append(f"  baseline: {file}" + (f", accepted because: {entry.accepted.because}" if entry else ""))
    tail.append(f"  accept: {accept_command(item)}")
    room = MOST_LINES - 1 - len(tail)
    shown = [f"  {line}" for line in others[:room]]
    if len(others) > room:
        shown[-1] = f"  and {len(others) - room + 1} more"
    return [first, *shown, *tail]


def conclude(item: pytest.Item, report: pytest.TestReport) -> None:
    """Make of a test's report what its baseline calls for, and keep the judgement and what is to be accepted."""
    case, session = item.stash.get(CASE, None), item.config.stash[SESSION]
    id = "::".join([item.nodeid.partition("::")[0], *names(item)])
    if case is None:
        if report.skipped and report.when == "setup":
            _keep(item, session, Judgement(id, "", "skipped", reason=_reason(report)))
        return
    if report.when != "call":
        return
    status, reason = _concluded(item, report, case, session)
    found = Judgement(
        id, case.environment, status, tuple(case.comparisons), reason, accept_command(item), case.fingerprint
    )
    _keep(item, session, found)
    if status == "accepted" and case.leave:
        session.fresh["proposals"].append(_proposal(item, case, case.leave).to_json())


def _concluded(item: pytest.Item, report: pytest.TestReport, case: Case, session: Session) -> tuple[str, str]:
    """The judgement's status and reason; the report is changed where pytest took the test for passed."""
    if not report.passed:
        if report.skipped:
            return ("expected failure" if hasattr(report, "wasxfail") else "skipped"), _reason(report)
        return "failed", "" if case.status == "failed" else "the test failed otherwise"
    if case.fingerprint is None:
        return _failed(report, "ftcheck: the test ended without ft_baseline.check() or .record()")
    missing = case.unmeasured()
    if missing:
        return _failed(report, "\n".join(failure_lines(case, missing, item)))
    new = [comparison for comparison in case.comparisons if comparison.verdict == "new"]
    if case.status == "no baseline":
        lines = failure_lines(case, new, item)
        report.ftcheck_status = ("failed", "B", "NO BASELINE")  # type: ignore[attr-defined]
        what = f"no baseline of {len(new)} metrics: " if len(new) > 1 else "no baseline of "
        _failed(report, "\n".join([what + lines[0], *lines[1:]]))
        return "no baseline", what + lines[0]
    if case.status == "not comparable":
        return _not_comparable(item, report, case, session)
    return case.status, ""


def _not_comparable(item: pytest.Item, report: pytest.TestReport, case: Case, session: Session) -> tuple[str, str]:
    reason = f"not comparable: {case.comparisons[0].note}"
    if session.settings.require_gpu:
        lines = [f"{reason} (--ftcheck-require-gpu)", f"  accept: {accept_command(item)}"]
        return _failed(report, "\n".join(lines))
    path, line, _ = item.reportinfo()
    report.outcome, report.longrepr = "skipped", (str(path), (line or 0) + 1, f"Skipped: {reason}")
    report.ftcheck_status = ("not comparable", "n", "NOT COMPARABLE")  # type: ignore[attr-defined]
    return "not comparable", reason


def _failed(report: pytest.TestReport, text: str) -> tuple[str, str]:
    report.outcome, report.longrepr = "failed", text
    return "failed", text.splitlines()[0]


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")


def _keep(item: pytest.Item, session: Session, judgement: Judgement) -> None:
    """For the controller, and for JUnit files, which have flat properties."""
    session.fresh["judgements"].append(judgement.to_json())
    properties: list[tuple[str, object]] = [("ftcheck.baseline", judgement.status)]
    properties += [("ftcheck.environment", judgement.environment)] if judgement.environment else []
    properties += [(f"ftcheck.{c.metric}", c.value) for c in judgement.comparisons if c.value is not None]
    item.user_properties += properties


def _proposal(item: pytest.Item, case: Case, leave: Acceptance) -> Proposal:
    assert case.fingerprint is not None
    accepted = Acceptation(leave.reason, commit(item.config.rootpath))
    entry = Entry(case.accepted, case.fingerprint, accepted, case.code)
    text = json.dumps(entry.to_data(), sort_keys=True)
    return Proposal(str(case.folder), case.environment, case.test, text, leave.new_only)
