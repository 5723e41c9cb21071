"""What carries out the runs that a session needs, and the executor that needs nothing: this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from ..allowance import Allowance
from ..reads import recorded_reads
from ..run import Run

if TYPE_CHECKING:
    from ..runner import Request

T = TypeVar("T")


class Trained(NamedTuple):
    """A run, and the data files that it has read, by their digests; None where that is not known any more.
    ``stored``: whether it was kept where it was trained.
    """

    run: Run
    reads: Mapping[str, str] | None
    stored: bool = False


class Executor(Protocol):
    """``remote``: runs are carried out elsewhere, several at once, and whoever asks waits."""

    remote: bool

    def key(self, request: Request) -> str | None:
        """That of the stored run; None where what it depends on cannot be told."""

    def prepared(self, request: Request, key: str | None) -> Callable[[], Trained]:
        """What carries the run out, from any thread if ``remote``, and raises FtcheckError. Without a ``key`` the run
        is trained anew.
        """


class LocalExecutor:
    """Runs in this process, within ``allowance``."""

    remote = False

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def key(self, request: Request) -> str | None:
        return request.key()

    def prepared(self, request: Request, key: str | None) -> Callable[[], Trained]:
        return lambda: self._train(request)

    def _train(self, request: Request) -> Trained:
        __tracebackhide__ = True
        with recorded_reads() as reads:
            run = self._allowance.run(request)
        return Trained(run, reads)


def in_background(call: Callable[[], T]) -> Future[T]:
    """What ``call`` will give. By a thread of its own, which ends with the process: those of a pool are waited for."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # whoever asks for the result is told
            future.set_exception(error)

    threading.Thread(target=work, name="ftcheck-run", daemon=True).start()
    return future
