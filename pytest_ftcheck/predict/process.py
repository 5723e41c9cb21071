"""A process of its own for a prediction: torch aborts on some mistakes, and a fake device cannot be unregistered.

Where it can the process is a fork, which has the user's recipe as it is, patches of a test included, and imports
nothing anew. Elsewhere than on Linux forking is not safe, and where there is a GPU torch's threads and CUDA's state do
not survive it: then it is a fresh interpreter, which knows the files and not what was patched. The environment variable
``FTCHECK_PREDICT_PROCESS`` (``fork``, ``fresh``) decides otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Protocol

from ..errors import PredictionError, RecipeError
from ..failures import one_line
from ..process_group import apart, kill_group
from ..scratch import prefix
from .exchange import PREDICTION, Exchange
from .limits import Limits
from .parcel import packed
from .request import Request
from .worker import serve

VARIABLE = "FTCHECK_PREDICT_PROCESS"
FORK, FRESH = "fork", "fresh"
POLL_S = 0.005


def in_own_process(request: Request, limits: Limits) -> str:
    """What ``request.answer(journal)`` returns, from a process of its own. Raises the errors of this package that it
    raises, and PredictionError where the process died, or met a limit.
    """
    make = Fork if way() == FORK else FreshInterpreter
    with (
        tempfile.TemporaryDirectory(prefix=prefix() + "predict-", ignore_cleanup_errors=True) as folder,
        Exchange(Path(folder)) as exchange,
    ):
        try:
            child: Child = make(request, exchange, limits)
        except OSError as error:
            raise PredictionError(f"{PREDICTION} cannot be started: {one_line(error)}") from error
        try:
            status = child.wait(limits.time_s)
        except TimeoutError:
            raise PredictionError(
                f"the prediction took longer than {limits.time_s:g} s, and was ended in {exchange.doing()}\n"
                "  what to do: fewer layers (the cost is linear in them), or a larger time_limit_s"
            ) from None
        finally:
            child.end()
        return exchange.outcome(status)


def way() -> str:
    """``"fork"`` or ``"fresh"``. Raises RecipeError where the environment asks for something else."""
    allowed = (FORK, FRESH) if hasattr(os, "fork") else (FRESH,)
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return FORK if _can_fork() else FRESH
    if asked not in allowed:
        raise RecipeError(f"{VARIABLE} is {asked!r}; allowed: {', '.join(allowed)}")
    return asked


def _can_fork() -> bool:
    """Whether a fork of this process could run a backward pass."""
    import torch

    return sys.platform.startswith("linux") and not torch.accelerator.is_available()


class Child(Protocol):
    """A process that answers a request."""

    def wait(self, seconds: float) -> int:
        """Its exit status, negative for a signal. Raises TimeoutError where it goes on for longer than that."""

    def end(self) -> None:
        """Kill what is left of it, and of the processes that it started."""


class Fork:
    """A copy of this process, and the only thread of it that there is in the copy."""

    def __init__(self, request: Request, exchange: Exchange, limits: Limits) -> None:
        _import_what_it_will()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads (pytest-xdist has one); the copy takes no lock of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            serve(lambda: request, exchange, limits, parent)
        self._status: int | None = None

    def wait(self, seconds: float) -> int:
        end = time.monotonic() + seconds
        while True:
            self._reap(os.WNOHANG)
            if self._status is not None:
                return self._status
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(POLL_S)

    def end(self) -> None:
        kill_group(self._pid)
        if self._status is None:
            # It may not have had the time to form a group.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._reap(0)

    def _reap(self, options: int) -> None:
        try:
            done, status = os.waitpid(self._pid, options)
        except ChildProcessError:
            # Somebody else has: a parent that ignores SIGCHLD, say. Whether there is an answer tells the rest.
            self._status = 0
        else:
            self._status = os.waitstatus_to_exitcode(status) if done else None


def _import_what_it_will() -> None:
    """Import here what takes a fork seconds, so that the next one need not do it again."""
    importlib.import_module(f"{__package__}.dry_run")
    # Every mode of fake tensors loads it.
    importlib.import_module("torch._dynamo")
    if "transformers" in sys.modules:
        # Loads the greater part of transformers, of which a configuration has loaded next to nothing.
        importlib.import_module("peft")


class FreshInterpreter:
    """Another Python, which searches modules where this one does."""

    def __init__(self, request: Request, exchange: Exchange, limits: Limits) -> None:
        # First, so that there is nothing to end where the request cannot be sent.
        self._parcel = pickle.dumps((limits, os.getpid(), sys.argv, packed(request)))
        # Set before anything is imported: the working folder may have a file called like a module.
        start = f"import sys; sys.path[:] = {[*map(str, sys.path)]!r}; from {__package__} import worker; worker.main()"
        with exchange.output.open("wb") as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-c", start, str(exchange.folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(),
                **apart(),
            )

    def wait(self, seconds: float) -> int:
        try:
            self._process.communicate(self._parcel, seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        return self._process.returncode

    def end(self) -> None:
        kill_group(self._process.pid)
        self._process.kill()
        self._process.communicate()


def _environment() -> dict[str, str]:
    """One thread, as a fork has; and no warning an error, which would end an import."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | {"OMP_NUM_THREADS": "1"}
