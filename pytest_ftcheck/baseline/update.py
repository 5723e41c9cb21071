"""Writing what was accepted: once, at the end of a session, by its controller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..codec import Record
from ..errors import AcceptanceError, RecordError
from .comparison import shown
from .entry import Entry
from .metric import Curve, Metric, Names
from .store import BaselineFile

# Changed metrics that are named of a test.
NAMED = 6


@dataclass(frozen=True)
class Proposal(Record):
    """The entry of ``test`` (plain data) for the file of ``environment`` in ``folder``. With ``new_only``, metrics that
    have a baseline keep it.
    """

    folder: str
    environment: str
    test: str
    entry: str
    new_only: bool


def write(proposals: Sequence[Proposal]) -> tuple[list[str], list[str]]:
    """Write all, each file once. Returns lines of what has changed, old and new, and of what was not written."""
    told: list[str] = []
    failures: list[str] = []
    files: dict[tuple[str, str], list[Proposal]] = {}
    for proposal in proposals:
        files.setdefault((proposal.folder, proposal.environment), []).append(proposal)
    for (folder, environment), those in sorted(files.items()):
        file = BaselineFile(Path(folder), environment)
        try:
            told += _write_file(file, those, failures)
        except RecordError as error:
            failures.append(f"nothing was accepted: {str(error).splitlines()[0]}")
    return told, failures


def _write_file(file: BaselineFile, proposals: Sequence[Proposal], failures: list[str]) -> list[str]:
    told: list[str] = []
    with file.changing() as tests:
        for proposal in proposals:
            new = Entry.from_data(json.loads(proposal.entry))
            old = file.entry(proposal.test)
            try:
                merged = _merged(old, new) if proposal.new_only and old else new
            except AcceptanceError as error:
                failures.append(f"{proposal.test}: {error}")
                continue
            if old is not None and _same(old, merged):
                continue
            tests[proposal.test] = merged.to_data()
            told += _changes(file.path, proposal.test, old, merged)
    return told


def _merged(old: Entry, new: Entry) -> Entry:
    """``old``, with the metrics of ``new`` that it does not have. They must be of the environment that it names."""
    changes = old.fingerprint.changes(new.fingerprint)
    if changes:
        raise AcceptanceError(
            f"not accepted: the baselines that stay are of another environment ({changes[0]}); use --ftcheck-update"
        )
    return Entry({**new.metrics, **old.metrics}, old.fingerprint, new.accepted, new.code)


def _same(old: Entry, new: Entry) -> bool:
    """Whether there is nothing to write: another reason or commit is none."""
    return old.metrics == new.metrics and old.fingerprint == new.fingerprint


def _changes(path: Path, test: str, old: Entry | None, new: Entry) -> list[str]:
    """What is told of an entry: each metric that differs, and whether the code or the environment did."""
    if old is None:
        return [f"{test} in {path}: {len(new.metrics)} metrics, new"]
    lines = [
        _change(name, old.metrics.get(name), new.metrics.get(name))
        for name in sorted(old.metrics.keys() | new.metrics.keys())
        if old.metrics.get(name) != new.metrics.get(name)
    ]
    more = [f"  and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [f"{test} in {path}: {_why(old, new)}", *(f"  {line}" for line in lines[:NAMED]), *more]


def _change(name: str, old: Metric | None, new: Metric | None) -> str:
    before, after = (shown(m.value, m.unit) if m else "-" for m in (old, new))
    if before == after and old and new:
        is_whole = isinstance(new.value, (Curve, Names))
        return f"{name}: {before} -> {after}, in its " + ("details" if is_whole else "samples or limit")
    return f"{name}: {before} -> {after}"


def _why(old: Entry, new: Entry) -> str:
    """Whether the code or the environment changed."""
    environment = old.fingerprint.changes(new.fingerprint)
    found = [f"the environment changed ({', '.join(environment)})"] if environment else ["the environment is the same"]
    if old.code and new.code:
        found.append("the code is the same" if old.code == new.code else "the code changed")
    elif old.accepted.commit and new.accepted.commit:
        same = old.accepted.commit == new.accepted.commit
        found.append("the commit is the same" if same else f"commit {old.accepted.commit} -> {new.accepted.commit}")
    return ", ".join(found)
