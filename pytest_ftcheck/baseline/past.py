"""How it went with the metrics of a session: what was accepted of each before, and what earlier sessions have seen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..codec import Record
from ..errors import HistoryError, RecordError
from .comparison import one_number, shown
from .entry import Entry
from .judgement import Judgement
from .metric import Metric
from .revisions import Revision, revisions
from .store import BaselineFile, place_of

# What looking back may take, and how many sessions of a history are looked at.
BUDGET_S, SESSIONS = 5.0, 20


@dataclass(frozen=True)
class Accepted(Record):
    """A value of which somebody said that it is right: as a text and, where it is one, a number. ``commit`` and ``day``
    are of the commit that has it first ("" for what is in none yet), ``by``: or an earlier one, which is not there to
    be looked at.
    """

    shown: str
    value: float | None
    because: str
    commit: str = ""
    day: str = ""
    by: bool = False


@dataclass(frozen=True)
class Past(Record):
    """``metric`` of ``test`` (its node id) in an environment: what was ``accepted``, oldest first, each value once as
    long as it stood; and ``runs``, the values that the last sessions have added to the history.
    """

    test: str
    metric: str
    environment: str
    accepted: tuple[Accepted, ...] = ()
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pasts:
    """``found``, in the order of the judgements; ``problems`` says what could not be looked at."""

    found: tuple[Past, ...] = ()
    problems: tuple[str, ...] = ()


def look_back(
    judgements: Sequence[Judgement],
    root: Path,
    baseline_dir: str | None,
    history: str | None,
    budget_s: float = BUDGET_S,
) -> Pasts:
    """The past of every metric that ``judgements`` compare, those first that did not pass. ``baseline_dir`` and
    ``history`` are the session's settings. Whatever is missing is left out: no git, no commits, no history.
    """
    end, problems = time.monotonic() + budget_s, []
    runs, told = _runs(history) if history else ({}, [])
    problems += told
    known: dict[Path, list[Revision]] = {}
    found: dict[tuple[str, str, str], Past] = {}
    ordered = sorted(judgements, key=lambda one: one.status == "passed")
    for number, judgement in enumerate(ordered):
        if time.monotonic() > end:
            problems.append(f"of {len(ordered) - number} of {len(ordered)} tests nobody looked back: it takes too long")
            break
        accepted = _accepted(judgement, root, baseline_dir, known) if judgement.comparisons else {}
        for one in judgement.comparisons:
            key = (judgement.environment, judgement.test, one.metric)
            found[key] = Past(
                judgement.test, one.metric, judgement.environment, accepted.get(one.metric, ()), runs.get(key, ())
            )
    order = [(j.environment, j.test, one.metric) for j in judgements for one in j.comparisons]
    return Pasts(tuple(found[key] for key in dict.fromkeys(order) if key in found), tuple(problems))


def _accepted(
    judgement: Judgement, root: Path, baseline_dir: str | None, known: dict[Path, list[Revision]]
) -> dict[str, tuple[Accepted, ...]]:
    """Of each metric of a test, what was accepted."""
    file, _, names = judgement.test.partition("::")
    folder, test = place_of(root / file, names, root, baseline_dir)
    present = BaselineFile(folder, judgement.environment)
    if present.path not in known:
        known[present.path] = revisions(present)
    found: dict[str, list[Accepted]] = {}
    for revision, entry in _entries(known[present.path], present, test):
        for name, metric in entry.metrics.items():
            before = found.setdefault(name, [])
            one = _of(metric, entry, revision)
            if not before or (before[-1].shown, before[-1].value) != (one.shown, one.value):
                before.append(one)
    return {name: tuple(several) for name, several in found.items()}


def _entries(before: Sequence[Revision], present: BaselineFile, test: str) -> Iterator[tuple[Revision | None, Entry]]:
    """The entry of ``test`` in each commit, and as it is now. What cannot be read is told of where it is compared."""
    for revision in (*before, None):
        try:
            entry = (revision.file if revision else present).entry(test)
        except RecordError:
            continue
        if entry is not None:
            yield revision, entry


def _of(metric: Metric, entry: Entry, revision: Revision | None) -> Accepted:
    text, value, because = shown(metric.value, metric.unit), one_number(metric.value), entry.accepted.because
    if revision is None:
        return Accepted(text, value, because)
    return Accepted(text, value, because, revision.commit, revision.day, revision.by)


def _runs(history: str) -> tuple[dict[tuple[str, str, str], tuple[float, ...]], list[str]]:
    """(environment, test, metric) -> values, oldest first; and what could not be read."""
    from ..history.place import Place
    from ..history.series import Chosen, read

    try:
        several, problems = read(Place(history), Chosen(last=SESSIONS))
    except HistoryError as error:
        return {}, [str(error)]
    return {(one.environment, one.test, one.metric): one.values[-SESSIONS:] for one in several}, problems
