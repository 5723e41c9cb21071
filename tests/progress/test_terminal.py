"""Progress on a terminal leaves no trace, and in a log it is rare."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from progress.screen import seen

from pytest_ftcheck.progress.state import TRAINS, State
from pytest_ftcheck.progress.terminal import Line, Log, display_of

WIDTH = 60


def state(elapsed_s: float, step: int = 3, test: str = "test_it.py::test_a") -> State:
    return State("narrow, full, seed 0", test, TRAINS, elapsed_s, step, 500, 0.25, 92.0)


class Terminal:
    """pytest's reporter on a file that passes for a terminal, with its options."""

    def __init__(self, pytester: pytest.Pytester, *arguments: str) -> None:
        self.file = StringIO()
        self.config = pytester.parseconfigure("-p", "no:cacheprovider", *arguments)
        self.reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        if self.reporter is not None:
            self.reporter.isatty = True
            writer = self.config.get_terminal_writer()
            writer._file, writer.fullwidth = self.file, WIDTH

    @property
    def rows(self) -> list[str]:
        # As the terminal's driver passes it on.
        return seen(self.file.getvalue().replace("\n", "\r\n"))


@pytest.fixture
def terminal(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal(pytester)


def test_pytests_dots_go_on_as_if_nothing_had_been_there(terminal: Terminal) -> None:
    line = Line(terminal.config, terminal.reporter)
    terminal.reporter.write("test_it.py ..")
    line.write("ftcheck: a long line")
    assert terminal.rows == ["test_it.py ..", "ftcheck: a long line"]
    line.write("ftcheck: short")
    assert terminal.rows == ["test_it.py ..", "ftcheck: short"]
    line.clear()
    assert terminal.rows == ["test_it.py ..", ""]
    terminal.reporter.write("F.\n")
    terminal.reporter.write("test_other.py ")
    assert terminal.rows == ["test_it.py ..F.", "test_other.py"]


def test_a_line_that_goes_over_the_edge_is_found_again_and_one_that_ends_there_is_left_alone(
    terminal: Terminal,
) -> None:
    line = Line(terminal.config, terminal.reporter)
    terminal.reporter.write("x" * (WIDTH + 5))
    line.write("ftcheck: a")
    # Our screen is endlessly wide; a real one has put the cursor five columns into the next line.
    assert terminal.file.getvalue().endswith("\x1b[K\x1b[1A\r\x1b[5C")
    terminal.reporter.write("\n" + "y" * WIDTH)
    before = terminal.file.getvalue()
    line.write("ftcheck: b")
    assert terminal.file.getvalue() == before


def test_a_line_is_cleared_once(terminal: Terminal) -> None:
    line = Line(terminal.config, terminal.reporter)
    line.clear()
    assert terminal.file.getvalue() == ""
    line.write("ftcheck: a")
    line.clear()
    once = terminal.file.getvalue()
    line.clear()
    assert terminal.file.getvalue() == once


def test_a_short_training_shows_nothing(terminal: Terminal) -> None:
    line = Line(terminal.config, terminal.reporter)
    assert line.text({"": state(2.9)}) is None
    assert (
        line.text({"": state(3.0)}) == "ftcheck: narrow, full, seed 0: step 3 of 500, loss 0.25, 1:32 left"[: WIDTH - 1]
    )


def test_all_workers_share_the_line_and_what_has_no_room_is_counted(terminal: Terminal) -> None:
    line = Line(terminal.config, terminal.reporter)
    terminal.config.get_terminal_writer().fullwidth = 160
    both = line.text({"gw1": state(5), "gw0": state(9, step=7), "gw2": state(1)})
    assert both == "ftcheck: " + " | ".join(
        f"{worker} narrow, full, seed 0: step {step} of 500, loss 0.25, 1:32 left"
        for worker, step in (("gw0", 7), ("gw1", 3))
    )
    terminal.config.get_terminal_writer().fullwidth = 100
    many = line.text({f"gw{i}": state(5) for i in range(8)})
    assert many == "ftcheck: gw0 narrow, full, seed 0: step 3 of 500, loss 0.25, 1:32 left | 7 more"
    terminal.config.get_terminal_writer().fullwidth = 40
    assert len(line.text({f"gw{i}": state(5) for i in range(8)}) or "") < 40


def test_a_log_has_a_line_after_ten_seconds_then_at_twice_the_time_and_then_every_minute(terminal: Terminal) -> None:
    log = Log(terminal.config, terminal.reporter)
    times = [second for second in range(301) if log.text({"": state(second)})]
    assert times == [10, 20, 40, 80, 140, 200, 260]


def test_each_test_and_each_worker_has_lines_of_its_own_in_a_log(terminal: Terminal) -> None:
    log = Log(terminal.config, terminal.reporter)
    text = log.text({"gw1": state(12), "gw0": state(11), "gw2": state(3)})
    what = "test_it.py::test_a: narrow, full, seed 0: step 3 of 500, loss 0.25, 1:32 left"
    assert text == f"ftcheck: gw0 {what} (11 s)\nftcheck: gw1 {what} (12 s)"
    assert log.text({"gw0": state(12)}) is None
    assert log.text({"gw0": state(12, test="test_it.py::test_b")}) is not None


def test_a_line_of_a_log_begins_a_new_line_also_after_dots_of_workers(terminal: Terminal) -> None:
    log = Log(terminal.config, terminal.reporter)
    terminal.reporter.write("..")
    log.write("ftcheck: a")
    terminal.reporter.write("F")
    assert terminal.rows == ["..", "ftcheck: a", "F"]


KINDS = {
    (): Line,
    ("-v",): Line,
    ("--no-header",): Line,
    ("--capture=sys",): Line,
    ("-s",): Log,
    ("--capture=tee-sys",): Log,
    ("--log-cli-level=INFO",): Log,
    ("-q",): None,
    ("-qq",): None,
    ("-p", "no:terminal"): None,
}


@pytest.mark.parametrize("arguments", KINDS, ids=" ".join)
def test_what_else_writes_to_the_screen_decides_how_progress_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    kind = KINDS[arguments]
    shown = display_of(Terminal(pytester, *arguments).config)
    assert shown is None if kind is None else type(shown) is kind


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("BUILD_NUMBER", "3"), ("TERM", "dumb"), ("TERM", "")])
def test_ci_and_dumb_terminals_get_new_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert type(display_of(terminal.config)) is Line
    monkeypatch.setenv(variable, value)
    assert type(display_of(terminal.config)) is Log


def test_a_file_gets_new_lines(terminal: Terminal) -> None:
    terminal.reporter.isatty = False
    assert type(display_of(terminal.config)) is Log


PROJECT = """
    import time
    import pytest
    from pytest_ftcheck.progress import panel, terminal, watch
    from pytest_ftcheck.tasks import NARROW, planted_recipe
    from pytest_ftcheck.training import train

    terminal.SHOWN_AFTER_S = 0.0
    watch.EVERY_S = panel.EVERY_S = 0.1

    def slow(job):
        job.model.register_forward_hook(lambda *_: time.sleep(0.15))
        print("the loop prints")
        train(job)

    @pytest.fixture(scope="session")
    def ft_recipe():
        return planted_recipe(NARROW, "narrow").replace(train=slow, steps=12)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "-n 1"])
def test_a_session_on_a_terminal_shows_progress_and_ends_without_a_trace_of_it(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makeconftest(PROJECT)
    pytester.makepyfile(test_it="def test_a(): pass\ndef test_b(ft_lora): pass\ndef test_c(): assert 0")
    options = ("-p", "no:cacheprovider", "-p", "no:benchmark", "--ftcheck-device=cpu", "--ftcheck-no-cache", "--tb=no")
    written = "".join(on_a_terminal([*options, *workers], pytester.path))
    assert "ftcheck: " + ("gw" if workers else "narrow, lora, seed 0: step ") in written
    assert "narrow, lora, seed 0: step 12 of 12" in written or "narrow, lora, seed 0: step 11 of 12" in written
    rows = seen(written)
    assert not [row for row in rows if "narrow, lora" in row]
    assert "the loop prints" not in written
    (dots,) = [row for row in rows if row.endswith("[100%]")]
    assert sorted(dots.removeprefix("test_it.py").removesuffix("[100%]").strip()) == [".", ".", "F"]


def on_a_terminal(arguments: list[str], folder: Path) -> Iterator[str]:
    """What pytest writes to a pseudo-terminal."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not data:
            break
        yield data.decode(errors="replace")
    os.close(ours)
    assert process.wait(60) == pytest.ExitCode.TESTS_FAILED
