"""Entries of baselines' files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from baseline.regressions import SOUND

from pytest_ftcheck.baseline.entry import Acceptation, Entry
from pytest_ftcheck.baseline.fingerprint import Fingerprint
from pytest_ftcheck.baseline.metrics import metrics_of
from pytest_ftcheck.baseline.store import BaselineFile

HERE = Fingerprint.of(SOUND.environment)


def an_entry(subject: Any = SOUND, **changes: Any) -> Entry:
    metrics = {m.name: m for m in metrics_of(subject)}
    entry = Entry(metrics, Fingerprint.of(subject.environment), Acceptation("the first", "0123456789ab"), "the code")
    return dataclasses.replace(entry, **changes)


def write(folder: Path, entries: dict[str, Entry], environment: str = "cpu") -> BaselineFile:
    """A file with ``entries`` among those that it has."""
    file = BaselineFile(folder, environment)
    with file.changing() as tests:
        for test, entry in entries.items():
            tests[test] = entry.to_data()
    return file
