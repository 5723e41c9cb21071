"""Measurements, and histories of them, that no session has made."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baseline.entries import HERE

from pytest_ftcheck.baseline.comparison import Comparison
from pytest_ftcheck.baseline.fingerprint import Fingerprint
from pytest_ftcheck.baseline.judgement import Judgement
from pytest_ftcheck.history.head import Head
from pytest_ftcheck.history.measurement import Measurement
from pytest_ftcheck.history.place import Place
from pytest_ftcheck.history.saved import machine_id, saved_session
from pytest_ftcheck.history.series import Point, Series
from pytest_ftcheck.history.trend import Trend

H200 = Fingerprint("cuda", "NVIDIA H200", {"torch": "2.13.0", "driver": "570.10"}, 1, False)
# Of sessions that only record: none of their processes has to ask torch for a device, which takes seconds.
CONFTEST = """
    import pytest

    @pytest.fixture(scope="session")
    def ft_device():
        return "cpu"
"""
START = datetime.datetime(2026, 11, 1, 12)


def a_comparison(metric: str = "lora/memory.peak_bytes", value: float | None = 1000.0, **changes: Any) -> Comparison:
    return Comparison(metric, "passed", **{"value": value, "unit": "bytes", "direction": "lower", **changes})


def a_judgement(*comparisons: Comparison, test: str = "test_it.py::test_it[lora]", **changes: Any) -> Judgement:
    return Judgement(test, "cpu", "passed", comparisons, **{"fingerprint": HERE, **changes})


def a_measurement(*values: float, **changes: Any) -> Measurement:
    about: dict[str, Any] = {
        "test": "test_it.py::test_it[lora]",
        "metric": "lora/memory.peak_bytes",
        "unit": "bytes",
        "direction": "lower",
        "fingerprint": HERE,
    }
    return Measurement(values=values or (1000.0,), **{**about, **changes})


def a_head(index: int, **changes: Any) -> Head:
    """Of the commit that was made ``index`` days after the first."""
    about: dict[str, Any] = {"id": f"{index:040x}", "time": f"{day(index).isoformat()}+00:00", "branch": "main"}
    return Head(**{**about, **changes})


def day(index: int) -> datetime.datetime:
    return START + datetime.timedelta(days=index)


def add_run(folder: Path, index: int, *found: Measurement, **changes: Any) -> str:
    """A run of a commit, an hour after it."""
    head, now = a_head(index, **changes), day(index) + datetime.timedelta(hours=1)
    environment = found[0].fingerprint.environment_class
    text = json.dumps(saved_session(found, head, now))
    return Place(str(folder)).add(f"{environment}/{machine_id()}", head.file_name(now), text)


def a_trend(values: Sequence[float], **changes: Any) -> Trend:
    """One run a day."""
    about: dict[str, Any] = {"test": "test_it.py::test_it[lora]", "metric": "lora/memory.peak_bytes", "unit": "bytes"}
    points = tuple(Point(value, f"{i:012x}", day(i), day(i), dirty=False) for i, value in enumerate(values))
    return Trend.of(Series(**{**about, "direction": "lower", "environment": "cpu", **changes}, points=points))
