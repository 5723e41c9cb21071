"""The life of a prediction's process, whether it is a fork or a fresh interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import pickle
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from .. import errors
from ..content import is_installed
from ..errors import FtcheckError, PredictionError
from ..failures import is_out_of_memory, one_line
from ..isolation import forget_accelerators
from ..tracebacks import chain
from .exchange import Exchange
from .limits import Limits, lift_memory_limit
from .parcel import unpacked
from .request import Request

# <linux/prctl.h>: the signal that the system sends a process when its parent has ended.
PR_SET_PDEATHSIG = 1
# The innermost frames of an error that nobody foresaw.
FRAMES = 4


def main() -> NoReturn:
    """The entry of a fresh interpreter: its standard input brings limits, process id of the parent and the parcel."""
    exchange = Exchange(Path(sys.argv[1]))
    limits, parent, sys.argv, parcel = pickle.loads(sys.stdin.buffer.read())
    serve(lambda: unpacked(parcel), exchange, limits, parent)


def serve(request: Callable[[], Request], exchange: Exchange, limits: Limits, parent: int) -> NoReturn:
    """Answer the request, and end without running anything that was registered for the exit of the parent."""
    status = 1
    try:
        # The parent's garbage is the parent's to finalize: a file in it would write what it has buffered a second time.
        gc.freeze()
        live_and_die_alone(parent)
        redirect_output(exchange)
        _forget_the_parent(exchange, limits)
        limits.impose()
        _answer(request, exchange)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


def _answer(request: Callable[[], Request], exchange: Exchange) -> None:
    """Write what came of it."""
    try:
        value = request().answer(exchange.journal)
    except BaseException as error:
        lift_memory_limit()
        exchange.refuse(*_told(error, exchange.doing()))
    else:
        exchange.answer(value)


def _told(error: BaseException, doing: str) -> tuple[str, str]:
    """The name of an error of this package, and its text."""
    if any(is_out_of_memory(one) for one in chain(error)):
        return PredictionError.__name__, (
            f"the prediction needs more than its memory limit, in or after {doing}\n"
            "  what to do: build the model without weights (on torch's meta device), or a larger memory_limit_bytes"
        )
    if isinstance(error, FtcheckError):
        known = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return next(known), str(error)
    if isinstance(error, SystemExit):
        return PredictionError.__name__, f"the recipe's code called sys.exit({error.code!r}), in or after {doing}"
    return PredictionError.__name__, f"the prediction raised {one_line(error)}, in or after {doing}{_frames(error)}"


def _frames(error: BaseException) -> str:
    """The frames of the user's own code, and the innermost ones."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames[:-FRAMES] if not is_installed(Path(frame.filename).resolve())]
    return "".join(f"\n  at {one.filename}:{one.lineno} in {one.name}" for one in (*own, *frames[-FRAMES:]))


def live_and_die_alone(parent: int) -> None:
    """Be ended with the parent, and by nothing that is meant for the parent (Ctrl-C, its terminal)."""
    if hasattr(os, "setsid"):
        # A fresh interpreter was started as the leader of its session, and is refused.
        with contextlib.suppress(PermissionError):
            os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def redirect_output(exchange: Exchange) -> None:
    """Let nothing that is printed reach the parent, through whatever stream it had: pytest's capture has its own. These
    files are open for as long as the process lives.
    """
    output = exchange.output.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
    descriptors = {1, 2}
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            descriptors.add(stream.fileno())  # type: ignore[union-attr]
    for descriptor in descriptors:
        os.dup2(output.fileno(), descriptor)
    sys.stdout = sys.stderr = output
    faulthandler.enable(exchange.fault.open("w"))
    # A question to the user would wait for ever.
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.dup2(sys.stdin.fileno(), 0)


def _forget_the_parent(exchange: Exchange, limits: Limits) -> None:
    """Undo what a fork has of its parent and a process of its own must not have."""
    # A debugger, or a measurement of coverage.
    sys.settrace(None)
    sys.setprofile(None)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    # pytest shows the log while it is being written, and keeps it in files.
    logging.root.handlers.clear()
    # A dry run warns of what training does not; an option that makes errors of warnings is not about it.
    warnings.resetwarnings()
    # What is left in it goes with the exchange, even after the process was ended.
    tempfile.tempdir = os.environ["TMPDIR"] = str(exchange.scratch)
    # A prediction is the same on a machine with a GPU; user code that looks for one must not train there.
    if not limits.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A training of this session has chosen its device, and the one that is predicted is on another.
    forget_accelerators()
    _one_thread()


def _one_thread() -> None:
    """A fork has none of the threads that OpenMP had started, and waits for them as soon as it uses two."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.set_num_threads = lambda nthreads: None
