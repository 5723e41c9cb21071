"""A time limit on somebody else's code."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from .errors import TimeLimitError

# The alarm rings again after this long, for code that catches everything and goes on.
AGAIN_S = 2.0


class _Expired(BaseException):
    """Raised into the body; no ``except Exception`` of somebody else's code stops it."""


@contextlib.contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """Raise TimeLimitError when the body takes longer than ``seconds``.

    By the alarm signal, so it works where there is one, in the main thread, and while nobody else (pytest-timeout) uses
    it; elsewhere the body runs without a limit.
    """
    free = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if not free or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return

    def expired(*_: Any) -> None:
        raise _Expired

    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, AGAIN_S))
    try:
        yield
    except _Expired:
        raise TimeLimitError(
            f"{what} took longer than {seconds:g} s\n"
            "  likely cause: it hangs, or waits for another process; or the recipe is larger than a check can afford"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
