"""A time limit on somebody else's code."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from .errors import TimeLimitError
from .watchdog import watched

# The alarm rings again after this long at least, for code that catches everything and goes on.
AGAIN_S = 2.0
# How long code that is still in a native call when the alarm rings may take to return from it, and to clear up: a large
# kernel or a compilation does, a hang does not.
GRACE_S = 30.0


class _Expired(BaseException):
    """Raised into the body; no ``except Exception`` of somebody else's code stops it."""


@contextlib.contextmanager
def deadline(seconds: float | None, what: str) -> Iterator[None]:
    """Raise TimeLimitError when the body takes longer than ``seconds`` (None: it may take for ever).

    By the alarm signal, so it works where there is one, in the main thread, and while nobody else (pytest-timeout) uses
    it; elsewhere the body runs without a limit. Python sees the signal when native code returns to it: where it does
    not for ``GRACE_S`` more, the process is ended from the outside, within a session of pytest.
    """
    free = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if seconds is None or not free or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return

    def expired(*_: Any) -> None:
        raise _Expired

    with watched(seconds, GRACE_S, what), _unraised():
        signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, seconds, max(AGAIN_S, min(seconds, GRACE_S / 3)))
        try:
            yield
        except _Expired:
            raise TimeLimitError(
                f"{what} took longer than {seconds:g} s\n"
                "  likely cause: it hangs, or waits for another process; or the recipe is larger than the limit allows"
                " (--ftcheck-time-limit)"
            ) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextlib.contextmanager
def _unraised() -> Iterator[None]:
    """An alarm that rings in a finaliser, or elsewhere where no error gets out, is told to nobody: it rings again."""
    before = sys.unraisablehook

    def told(unraisable: Any) -> None:
        if unraisable.exc_type is not _Expired:
            before(unraisable)

    sys.unraisablehook = told
    try:
        yield
    finally:
        if sys.unraisablehook is told:
            sys.unraisablehook = before
