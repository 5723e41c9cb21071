"""Progress of workers, which have no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_ftcheck.board import Board
from pytest_ftcheck.progress import panel as module
from pytest_ftcheck.progress.panel import NOTICE, Panel, Poster
from pytest_ftcheck.progress.state import TRAINS, State


def state(elapsed_s: float = 5.0, step: int = 3) -> State:
    return State("narrow", "test_it.py::test_a", TRAINS, elapsed_s, step, 500)


class Display:
    """Takes down what is done to it."""

    to_be_cleared = False

    def __init__(self) -> None:
        self.done: list[str] = []

    def text(self, states: Mapping[str, State]) -> str | None:
        return " ".join(f"{worker}:{state.step}" for worker, state in states.items()) or None

    def write(self, text: str) -> None:
        self.done.append(text)

    def clear(self) -> None:
        self.done.append("cleared")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


Build = Callable[[float], tuple[Panel, Display]]


@pytest.fixture
def build(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Makes a panel that looks at the board after so many seconds, and its display."""
    panels: list[Panel] = []

    def panel(every_s: float) -> tuple[Panel, Display]:
        monkeypatch.setattr(module, "EVERY_S", every_s)
        display = Display()
        panels.append(Panel(board, display))  # type: ignore[arg-type]
        return panels[-1], display

    yield panel
    for made in panels:
        made.close()


def test_what_workers_post_is_shown_until_they_have_ended(board: Board, build: Build) -> None:
    panel, display = build(60.0)
    first, second = Poster(board, "gw0"), Poster(board, "gw1")
    first.tell(state())
    second.tell(state(step=8))
    panel.show()
    first.ended()
    panel.show()
    second.ended()
    panel.show()
    assert display.done == ["gw0:3 gw1:8", "gw1:8", "cleared"]


def test_it_looks_by_itself(board: Board, build: Build) -> None:
    _, display = build(0.01)
    Poster(board, "gw0").tell(state())
    until = time.monotonic() + 60
    while "gw0:3" not in display.done:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_notice_grows_older_while_a_step_takes_long(
    board: Board, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, _ = build(60.0)
    now_s = iter([100.0, 130.0, 131.0])
    Poster(board, "gw0").tell(state(1.0))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now_s)))
    assert panel.states()["gw0"].elapsed_s == 1.0
    assert panel.states()["gw0"].elapsed_s == 31.0
    Poster(board, "gw0").tell(state(32.5, step=4))
    assert panel.states()["gw0"].elapsed_s == 32.5


def test_notices_that_are_damaged_or_no_progress_are_left_out(board: Board, build: Build) -> None:
    panel, _ = build(60.0)
    board.post("tests", ["test_it.py::test_a"])
    board.post(NOTICE + "gw0", {"what": "narrow"})
    board.post(NOTICE + "gw1", '{"what": "narrow"}')
    (board.folder / f"{NOTICE}gw2.json").write_text('"{')
    assert panel.states() == {}


def test_what_a_dead_worker_was_at_is_forgotten(board: Board, build: Build) -> None:
    panel, _ = build(60.0)
    for worker in ("gw0", "gw1"):
        Poster(board, worker).tell(state())
    hook = panel.pytest_testnodedown(SimpleNamespace(gateway=SimpleNamespace(id="gw0")))
    next(hook)
    assert list(panel.states()) == ["gw1"]


def test_the_line_is_gone_before_pytest_writes_and_nothing_is_written_meanwhile(board: Board, build: Build) -> None:
    panel, display = build(60.0)
    Poster(board, "gw0").tell(state())
    panel.show()
    reported = panel.pytest_runtest_logreport()
    next(reported)
    assert display.done == ["gw0:3", "cleared"]
    other = threading.Thread(target=panel.show)
    other.start()
    other.join(0.2)
    assert other.is_alive(), "it does not wait for its turn"
    with pytest.raises(StopIteration):
        next(reported)
    other.join(60)
    # Nor right after: pytest often writes more at once.
    assert display.done == ["gw0:3", "cleared"]
    panel._not_before_s = 0.0
    panel.show()
    assert display.done[-1] == "gw0:3"


def test_nothing_is_shown_when_the_session_has_ended(board: Board, build: Build) -> None:
    panel, display = build(60.0)
    Poster(board, "gw0").tell(state())
    panel.close()
    panel.show()
    assert display.done == ["cleared"]
    assert not panel._thread.is_alive()
