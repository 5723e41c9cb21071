"""A process of its own for a prediction: torch aborts on some mistakes, and a fake device cannot be unregistered.

Where it can the process is a fork, which has the user's recipe as it is, patches of a test included, and imports
nothing anew. After a backward pass on a GPU torch cannot differentiate in a fork, and elsewhere than on Linux forking
is not safe: then it is a fresh interpreter, to which the recipe is sent by cloudpickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .. import errors
from ..errors import FtcheckError, PredictionError, RecipeError
from ..failures import one_line
from .journal import Journal

Task = Callable[[Journal], str]
POLL_S = 0.005


@dataclass(frozen=True)
class Limits:
    """What a prediction may take: seconds, and bytes of address space beyond what the process has already."""

    time_s: float = 300.0
    memory_bytes: int = 16 * 2**30

    def __post_init__(self) -> None:
        for name, value in (("time_limit_s", self.time_s), ("memory_limit_bytes", self.memory_bytes)):
            if not (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
                raise RecipeError(f"{name} is {value!r}; allowed: a number greater than 0")


def in_own_process(task: Task, limits: Limits) -> str:
    """What ``task(journal)`` returns, from a process of its own. Raises the errors of this package that it raised, and
    PredictionError where the process died, or met a limit.
    """
    with tempfile.TemporaryDirectory(prefix="ftcheck-predict-") as folder:
        exchange = Exchange(Path(folder))
        child = _fork(task, exchange, limits) if can_fork() else _spawn(task, exchange, limits)
        status = _wait(child, exchange, limits)
        return exchange.outcome(status)


def can_fork() -> bool:
    """Whether a fork of this process could run a backward pass."""
    if not sys.platform.startswith("linux"):
        return False
    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()


class Exchange:
    """The files through which the two processes speak."""

    def __init__(self, folder: Path) -> None:
        self.result, self.output, self.task = folder / "result.json", folder / "output", folder / "task"
        self.journal = Journal(folder / "journal")

    def answer(self, task: Task) -> None:
        """Run the task, and write what came of it."""
        try:
            answer = {"value": task(self.journal)}
        except FtcheckError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        except MemoryError:
            answer = {"error": "PredictionError", "text": f"out of memory on the host: {self.journal.read()}"}
        except Exception as error:
            text = f"the prediction raised {one_line(error)}: {self.journal.read()}\n{traceback.format_exc()}"
            answer = {"error": "PredictionError", "text": text}
        self.result.write_text(json.dumps(answer), encoding="utf-8")

    def outcome(self, status: int) -> str:
        """The task's value. Raises the error that it raised, or one that says how its process died."""
        if status == 0 and self.result.exists():
            answer = json.loads(self.result.read_text(encoding="utf-8"))
            if "error" not in answer:
                return str(answer["value"])
            raise getattr(errors, answer["error"], PredictionError)(answer["text"])
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        said = self.output.read_text(errors="replace").strip().splitlines()[-5:] if self.output.exists() else []
        tail = "".join(f"\n  {line}" for line in said)
        raise PredictionError(f"the prediction's process died ({how}) in {self.journal.read()}{tail}")


def _fork(task: Task, exchange: Exchange, limits: Limits) -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads (xdist has one); this child takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _in_child(task, exchange, limits)
    return child


def _in_child(task: Task, exchange: Exchange, limits: Limits) -> NoReturn:
    """The life of the forked process; nothing of the parent's (handlers, buffers, exit functions) may run."""
    status = 1
    try:
        output = exchange.output.open("w")
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        sys.stdout = sys.stderr = output
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit_memory(limits.memory_bytes)
        _one_thread()
        exchange.answer(task)
        output.flush()
        status = 0
    finally:
        os._exit(status)


def _spawn(task: Task, exchange: Exchange, limits: Limits) -> int:
    raise NotImplementedError


def _wait(child: int, exchange: Exchange, limits: Limits) -> int:
    """The exit status of the process, negative for a signal. Raises PredictionError where it takes too long."""
    end = time.monotonic() + limits.time_s
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(POLL_S)
    except BaseException:
        _kill(child)
        raise
    _kill(child)
    raise PredictionError(
        f"the prediction took longer than {limits.time_s:g} s, and was ended in {exchange.journal.read()}\n"
        "  what to do: fewer layers (the cost is linear in them), or a larger time_limit_s"
    )


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def limit_memory(extra_bytes: int) -> None:
    """Let this process have so much more address space than it has now."""
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = now + int(extra_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def _one_thread() -> None:
    """A fork has none of the threads that torch had started for its parent."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


_ = subprocess
