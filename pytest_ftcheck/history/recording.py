"""Adding what a session has measured to the history."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ..baseline.judgement import Judgement
from .head import Head
from .measurement import Measurement, measurements
from .place import Place
from .saved import machine_id, saved_session


def record(judgements: Sequence[str], where: str, root: Path) -> list[str]:
    """Add a file for each environment, from judgements as JSON. Returns a line for each file. Raises HistoryError where
    one cannot be written.
    """
    found = measurements([Judgement.from_json(text) for text in judgements])
    if not found:
        return []
    head, now, place = Head.of(root), datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None), Place(where)
    told = []
    for environment, several in groupby(sorted(found, key=_environment), _environment):
        metrics = list(several)
        text = json.dumps(saved_session(metrics, head, now), allow_nan=False, indent=1)
        name = place.add(f"{environment}/{machine_id()}", head.file_name(now), text)
        told.append(f"history: {len(metrics)} metrics in {where.rstrip('/')}/{name}")
    return told


def _environment(one: Measurement) -> str:
    return one.fingerprint.environment_class
