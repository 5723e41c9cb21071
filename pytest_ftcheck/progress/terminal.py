"""Progress on a terminal and in a log, by pytest's own reporter, never within what pytest writes or captures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import pytest

from .state import State

# How long a test has trained before anything is shown: in place; and as a line of a log, again at twice the time and
# then every minute.
SHOWN_AFTER_S, LOGGED_AFTER_S, MOST_BETWEEN_S = 3.0, 10.0, 60.0


class Line:
    """One line below pytest's, rewritten in place. The cursor is put back where pytest left it, so that its dots go on
    as if nothing had been there.
    """

    def __init__(self, config: pytest.Config, reporter: Any) -> None:
        self._writer, self._reporter = config.get_terminal_writer(), reporter
        self._is_there = False

    def text(self, states: Mapping[str, State]) -> str | None:
        """What to write for the ``states`` of trainings by worker ("" without workers); None for nothing."""
        parts = [f"{worker} {s}".strip() for worker, s in sorted(states.items()) if s.elapsed_s >= SHOWN_AFTER_S]
        width = self._writer.fullwidth - 1
        text = "ftcheck: " + " | ".join(parts)
        dropped = 0
        while len(text) > width and len(parts) > 1:
            dropped += 1
            text = "ftcheck: " + " | ".join([*parts[:-dropped], f"{dropped} more"])
            if dropped == len(parts) - 1:
                break
        return text[:width] if parts else None

    def write(self, text: str) -> None:
        """Show ``text`` in place of what is shown."""
        column = self._writer.width_of_current_line
        # After the last column a terminal's cursor is between two lines, and cannot be put back.
        if not column or column % self._writer.fullwidth:
            self._below(text)
            self._is_there = True

    def clear(self) -> None:
        """Leave no trace of the line."""
        if self._is_there:
            self._below("")
            self._is_there = False

    @property
    def to_be_cleared(self) -> bool:
        return self._is_there

    def _below(self, text: str) -> None:
        column = self._writer.width_of_current_line % self._writer.fullwidth
        back = f"\r\x1b[{column}C" if column else "\r"
        self._reporter.write_raw(f"\n\r{text}\x1b[K\x1b[1A{back}", flush=True)


class Log:
    """A new line now and then, with the test's name: for files, CI systems, and terminals that others write to."""

    to_be_cleared = False

    def __init__(self, config: pytest.Config, reporter: Any) -> None:
        self._writer, self._reporter = config.get_terminal_writer(), reporter
        # (worker, test) -> after how long its next line is due.
        self._due_s: dict[tuple[str, str], float] = {}

    def text(self, states: Mapping[str, State]) -> str | None:
        """The lines that are due, which count as written; None for nothing."""
        return (
            "\n".join(self._line(worker, s) for worker, s in sorted(states.items()) if self._is_due(worker, s)) or None
        )

    def write(self, text: str) -> None:
        """Write lines, from the beginning of one."""
        self._reporter.ensure_newline()
        if self._writer.width_of_current_line:  # dots of workers, of which the reporter does not know
            self._reporter.write("\n")
        for line in text.splitlines():
            self._reporter.write_line(line)
        self._reporter.flush()

    def clear(self) -> None:
        """What is in a log stays."""

    def _is_due(self, worker: str, state: State) -> bool:
        due_s = self._due_s.get((worker, state.test), LOGGED_AFTER_S)
        if state.elapsed_s < due_s:
            return False
        while due_s <= state.elapsed_s:
            due_s += min(due_s, MOST_BETWEEN_S)
        self._due_s[worker, state.test] = due_s
        return True

    def _line(self, worker: str, state: State) -> str:
        return f"ftcheck: {' '.join(filter(None, [worker, state.test]))}: {state} ({state.elapsed_s:.0f} s)"


Display = Line | Log


def display_of(config: pytest.Config) -> Display | None:
    """How this session shows progress; None where it is quiet, or has no terminal reporter."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or reporter.verbosity < 0:
        return None
    return Line(config, reporter) if _is_ours_alone(config, reporter) else Log(config, reporter)


def _is_ours_alone(config: pytest.Config, reporter: Any) -> bool:
    """Whether the screen is a terminal that understands cursor movements, and shows what pytest writes and no more."""
    in_ci = os.environ.get("CI") or os.environ.get("BUILD_NUMBER")
    moves = reporter.isatty and os.environ.get("TERM", "") not in ("", "dumb") and not in_ci
    captures = config.getoption("capture") in ("fd", "sys")
    logs = config.getini("log_cli") or config.getoption("log_cli_level", None)
    # A reporter of another plugin's (sugar, rich) has its own ways with the screen.
    return bool(moves and captures and not logs and type(reporter).__module__ == "_pytest.terminal")


class Screen:
    """The audience of a process that has a terminal. While a test runs, pytest takes what is written to it for the
    test's output: so capturing is suspended meanwhile.
    """

    def __init__(self, config: pytest.Config, display: Display) -> None:
        self._capture: Any = config.pluginmanager.getplugin("capturemanager")
        self._display = display

    def tell(self, state: State) -> None:
        text = self._display.text({"": state})
        if text is not None:
            with self._uncaptured():
                self._display.write(text)

    def ended(self) -> None:
        if self._display.to_be_cleared:
            with self._uncaptured():
                self._display.clear()

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._capture is None else self._capture.global_and_fixture_disabled()
