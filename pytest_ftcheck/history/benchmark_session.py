"""Measurements in pytest-benchmark's own session: in its tables, files and comparisons, under ``-n`` too.

It has no public way to add a benchmark that it has not timed. Its list of benchmarks is what there is; where a release
has another, measurements are added to the files that it saves, and that is said. (Which releases have been tried:
tests/history/test_benchmark_session.py.)
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ..baseline.fingerprint import environment_class
from ..baseline.judgement import Judgement
from ..environment import installed_gpu
from .measurement import Measurement, measurements
from .saved import described, recorded_values, saved_metric

# Its session, as it registers it; and its storage, where nobody chose another.
SESSION_OBJECT, DEFAULT_STORAGE = "pytest-benchmark", "file://./.benchmarks"


class Joining:
    """Adds the measurements of each test to the session of pytest-benchmark."""

    def __init__(self, config: pytest.Config, device: str) -> None:
        self._config = config
        self._gpu = {} if device == "cpu" else installed_gpu()
        self._left: list[Measurement] = []
        self._told: list[str] = []
        if self._gpu and config.option.benchmark_storage == DEFAULT_STORAGE:
            # Two kinds of GPU share no folder: their numbers are not to be compared.
            config.option.benchmark_storage += f"/{environment_class('cuda', self._gpu['name'])}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what the test has measured."""
        for one in measurements([Judgement.from_json(text) for text in getattr(report, "ftcheck_judgements", ())]):
            try:
                session: Any = self._config.pluginmanager.get_plugin(SESSION_OBJECT)
                session.benchmarks.append(_benchmark(one))
            except (ImportError, AttributeError, TypeError) as error:
                self._left.append(one)
                self._tell(error)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Say which GPU it was."""
        if self._gpu:
            machine_info["gpu"] = self._gpu

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Add to the file what is not in the session."""
        output_json["benchmarks"] += [saved_metric(one) for one in self._left]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what could not be done."""
        for line in self._told:
            terminalreporter.write_line(f"ftcheck: {line}", yellow=True)

    def _tell(self, error: Exception) -> None:
        why = "this pytest-benchmark keeps its benchmarks otherwise"
        text = f"measurements are in its files, and in none of its tables: {why} ({type(error).__name__}: {error})"
        self._told = [text]


def _benchmark(one: Measurement) -> Any:
    """A benchmark of pytest-benchmark's."""
    from pytest_benchmark import stats

    fixture = SimpleNamespace(**described(one), cprofile_stats=None, has_error=False)
    made: Any = stats.Metadata(fixture, iterations=1, options={})  # type: ignore[no-untyped-call]
    for value in recorded_values(one):
        made.update(value)
    return made
