"""The hooks. Imported by every pytest session, so only the standard library and pytest may be imported here.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from .fixtures import ft_device, ft_full, ft_lora, ft_observe, ft_pair, ft_recipe, ft_run
from .options import add_options, settings
from .session import SESSION, Session

GPU = (
    'gpu(memory="20GB", count=1): needs a GPU (ftcheck); skipped where there is none, '
    "run on the CPU with --ftcheck-device=cpu"
)

__all__ = ["ft_device", "ft_full", "ft_lora", "ft_observe", "ft_pair", "ft_recipe", "ft_run"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_addoption"""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, so that a bad value ends the session before anything is collected."""
    config.addinivalue_line("markers", GPU)
    config.stash[SESSION] = Session(settings(config))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Controller(config), "ftcheck-controller")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers with arguments that they do not take, before anything runs."""
    for item in items:
        marker = item.get_closest_marker("gpu")
        if marker is not None:
            from .markers import gpu_need

            gpu_need(item, marker)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the skip markers
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is none, or fail it where one was promised."""
    marker = item.get_closest_marker("gpu")
    if marker is not None:
        from .markers import gpu_need, refuse_without_gpu

        refuse_without_gpu(item, gpu_need(item, marker), item.config.stash[SESSION].settings)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report carry the runs that were trained for it: it is what reaches the controller from a worker."""
    report = yield
    session = item.config.stash[SESSION]
    if session.fresh:
        report.ftcheck_runs, session.fresh = session.fresh, []  # type: ignore[attr-defined]
    return report


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison with one of our numbers."""
    if not any(type(value).__module__.startswith("pytest_ftcheck.") for value in (left, right)):
        return None
    from .report.assertion import explain

    return explain(op, left, right)


class Controller:
    """What happens once in a session, however many workers it has."""

    def __init__(self, config: pytest.Config) -> None:
        self._settings = config.stash[SESSION].settings
        self._runs: list[str] = []
        self._executed_on_gpu = 0
        self._failure: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the runs, and count the tests marked ``gpu`` that were executed."""
        self._runs.extend(getattr(report, "ftcheck_runs", []))
        if report.when == "call" and "gpu" in report.keywords and not report.skipped:
            self._executed_on_gpu += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """With --ftcheck-require-gpu, a session that executed nothing on a GPU has failed."""
        if self._settings.require_gpu and not session.config.option.collectonly and not self._executed_on_gpu:
            self._failure = "--ftcheck-require-gpu: 0 tests marked gpu were executed"
            if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the comparison, where there were runs, and why the session failed, where it did."""
        if self._runs:
            from .report.terminal import write_summary

            write_summary(terminalreporter, self._runs)
        if self._failure:
            terminalreporter.write_line(f"ftcheck: {self._failure}", red=True, bold=True)
