"""What happens once in a session, on the one process that sees all reports.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from .session import KINDS, SESSION
from .tally import Tally, ours

if TYPE_CHECKING:
    from .board import Board

# Where workers find the folder of their board, in ``config.workerinput``; and what they say on it when they have
# collected: the node ids of the tests that are ours.
BOARD, TESTS = "ftcheck_board", "tests"
# Of the terminal's summary, in its order: the records, and what in ``report`` writes them.
SECTIONS = (
    ("runs", "terminal", "write_summary"),
    ("sweeps", "sweeps", "write_sweeps"),
    ("verdicts", "audit", "write_audit"),
    ("comparisons", "comparison", "write_comparisons"),
)
EMPTY_OR_WELL = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Controller:
    """What happens once in a session, however many workers it has."""

    def __init__(self, config: pytest.Config) -> None:
        self._settings = config.stash[SESSION].settings
        self._records: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self._executed_on_gpu = 0
        self._tally = Tally()
        # Of workers: where they say which tests are ours, and how their trainings go on; made when the first is set up.
        self.board: Board | None = None
        self._has_panel = False
        self._history: list[str] = []
        self._failures: list[str] = []
        self._reports: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the records, and count the tests marked ``gpu`` that were executed."""
        for kind, records in self._records.items():
            records += getattr(report, f"ftcheck_{kind}", [])
        if report.when == "call" and "gpu" in report.keywords and not report.skipped:
            self._executed_on_gpu += 1
        self._tally.take(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Let a worker know where it may leave word."""
        from .board import Board

        self.board = self.board or Board.new()
        node.workerinput[BOARD] = str(self.board.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Where workers have tests of ours, show how their trainings go on."""
        if self.board is None or self._has_panel or self.board.read(TESTS) is None:
            return
        from .progress.panel import Panel
        from .progress.terminal import display_of

        self._has_panel, display = True, display_of(node.config)
        if display is not None:
            node.config.pluginmanager.register(Panel(self.board, display), "ftcheck-panel")

    def pytest_unconfigure(self) -> None:
        """Leave no folder behind."""
        if self.board is not None:
            self.board.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A session that executed nothing of what was asked for has failed."""
        collects_only = session.config.option.collectonly
        if not collects_only:
            self._tally.close(self._selected(session))
        was_ended = session.exitstatus not in (*EMPTY_OR_WELL, pytest.ExitCode.TESTS_FAILED)
        if collects_only or was_ended:
            if self._records["proposals"]:
                self._failures.append("nothing was accepted: the session was interrupted")
            if not collects_only:
                self._write_report(session.config)
            return
        if self._settings.require_gpu and not self._executed_on_gpu:
            self._failures.append("--ftcheck-require-gpu: 0 tests marked gpu were executed")
        self._failures += self._nothing_examined()
        self._failures += self._tally.failures(self._settings, session.exitstatus in EMPTY_OR_WELL)
        self._write_accepted()
        self._add_to_history(session.config)
        self._write_report(session.config)
        if self._failures and session.exitstatus in EMPTY_OR_WELL:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _selected(self, session: pytest.Session) -> list[str]:
        """The node ids of all tests that use the plugin and were not deselected."""
        if self.board is not None:
            return self.board.read(TESTS) or []
        return ours(getattr(session, "items", []))

    def _write_accepted(self) -> None:
        if self._records["proposals"]:
            from .baseline.update import Proposal, write

            told, failures = write([Proposal.from_json(text) for text in self._records["proposals"]])
            self._records["accepted"] += told
            self._failures += failures

    def _add_to_history(self, config: pytest.Config) -> None:
        if not (self._settings.history and self._records["judgements"]):
            return
        from .errors import HistoryError
        from .history.recording import record

        try:
            self._history = record(self._records["judgements"], self._settings.history, config.rootpath)
        except HistoryError as error:
            self._failures.append(f"--ftcheck-history: {error}")

    def _write_report(self, config: pytest.Config) -> None:
        if not self._settings.report:
            return
        from .errors import ReportError
        from .report.document.findings import Findings
        from .report.document.writing import write

        findings = Findings.now(
            self._records, self._tally.line(), self._failures, self._settings, config.stash[SESSION].root
        )
        try:
            self._reports = write(findings, self._settings.report, config.invocation_params.dir)
        except ReportError as error:
            self._failures.append(f"--ftcheck-report: {error}")

    def _nothing_examined(self) -> list[str]:
        if self._settings.sabotage:
            return [] if self._records["trials"] else ["--ftcheck-sabotage: 0 ways to break the recipe were tried"]
        if self._settings.against:
            return [] if self._records["comparisons"] else ["--ftcheck-against: nothing was compared"]
        if not self._settings.audit:
            return []
        from .report.audit import examined

        count = examined(self._records["verdicts"])
        return [] if count else ["--ftcheck-audit: 0 checks found anything to look at"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what was found, and why the session failed where no test says so."""
        for kind, module, write in SECTIONS:
            if self._records[kind]:
                getattr(importlib.import_module(f".report.{module}", __package__), write)(
                    terminalreporter, self._records[kind]
                )
        if self._records["judgements"]:
            from .report.baselines import write_baselines

            in_report = "md" in (self._settings.report or {})
            write_baselines(terminalreporter, self._records["judgements"], summarize=not in_report)
        for line in self._records["accepted"]:
            terminalreporter.write_line(f"ftcheck: accepted: {line}", yellow=True)
        for line in (*self._unshared(), *self._history, *self._reports):
            terminalreporter.write_line(f"ftcheck: {line}")
        if self._records["trials"]:
            from .report.sabotage import write_score

            write_score(terminalreporter, self._records["trials"])
        if self._tally and (terminalreporter.verbosity >= 0 or not self._tally.complete):
            terminalreporter.write_line(f"ftcheck: {self._tally.line()}")
        for failure in self._failures:
            terminalreporter.write_line(f"ftcheck: {failure}", red=True, bold=True)

    def _unshared(self) -> list[str]:
        """What to say of runs that others had to train for themselves; nothing where there were no others."""
        if not self._records["unshared"] or (self._settings.no_cache and self.board is None):
            return []
        from .report.sharing import unshared_line

        return [unshared_line(self._records["unshared"])]
