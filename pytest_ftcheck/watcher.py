"""The process that ends another one which does not come back from native code in time.

A process, because nothing within Python can: code that hangs with the interpreter's lock stops every thread, and
faulthandler's own timer is pytest's. It is a plain script, started without this package and without site-packages. On
its standard input come lines of JSON: an order ``{"seconds": 330, "told": "..."}``, or ``null`` when that has ended.
It ends with the process that it watches, whatever that one died of, and clears up after it.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import glob
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import Any

# How often it looks whether the other one is still there: a fork of it may hold the line open.
LOOK_S = 2.0
# How long the stacks of all threads may take to be written, in steps of so much.
DUMP_S, STEP_S = 2.0, 0.05


def main(pid: int, dump: str, number: int, leftovers: str, on_terminal: bool) -> None:
    """Watch the process ``pid``, which writes its stacks to the file ``dump`` on signal ``number``. What is told goes
    to standard error, or replaces what is in ``dump``, for somebody else to read. ``leftovers``: a pattern of files.
    """
    order, due, rest = None, 0.0, b""
    while os.getppid() == pid:
        wait = LOOK_S if order is None else min(LOOK_S, due - time.monotonic())
        if select.select([0], [], [], max(0.0, wait))[0]:
            chunk = os.read(0, 2**16)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                order = json.loads(lines[-1])
                due = time.monotonic() + order["seconds"] if order else 0.0
        elif order is not None and time.monotonic() >= due:
            _end(pid, dump, number, order, on_terminal)
            _clear_up([leftovers] if not on_terminal else [leftovers, glob.escape(dump)])
            return
    # Where it has ended well there is nothing left; after SIGKILL there is.
    _clear_up([leftovers, glob.escape(dump)])


def _end(pid: int, dump: str, number: int, order: dict[str, Any], on_terminal: bool) -> None:
    os.kill(pid, number)
    text = order["told"] + "\n" + _written(dump)
    if on_terminal:
        os.write(2, f"\n{text}\n".encode())
    else:
        with open(dump, "w", encoding="utf-8") as file:
            file.write(text)
    os.kill(pid, signal.SIGKILL)
    while os.getppid() == pid:
        # Its locks and files are free when it has gone.
        time.sleep(STEP_S)


def _written(dump: str) -> str:
    """The stacks, when nothing more is added to them."""
    end, before = time.monotonic() + DUMP_S, -1
    while time.monotonic() < end and before != os.path.getsize(dump):
        before = os.path.getsize(dump) or -1
        time.sleep(STEP_S)
    with open(dump, encoding="utf-8", errors="replace") as file:
        return file.read()


def _clear_up(patterns: list[str]) -> None:
    for path in (path for pattern in patterns for path in glob.glob(pattern)):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.exists(path):
            os.unlink(path)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5] == "terminal")
