"""What carries out the runs that a session needs, and the executor that needs nothing: this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
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
    """Runs in this process, within ``allowance``. ``unfinished(key)`` is the folder of checkpoints that an interrupted
    run goes on from; nobody else may train that run meanwhile.
    """

    remote = False

    def __init__(self, allowance: Allowance, unfinished: Callable[[str], Path | None] | None = None) -> None:
        self._allowance, self._unfinished = allowance, unfinished or (lambda key: None)

    def key(self, request: Request) -> str | None:
        return request.key()

    def prepared(self, request: Request, key: str | None) -> Callable[[], Trained]:
        folder = self._unfinished(key) if key and request.recipe.save_steps else None
        return lambda: self._train(request, folder)

    def _train(self, request: Request, folder: Path | None) -> Trained:
        __tracebackhide__ = True
        with recorded_reads(apart_from=folder) as reads:
            run = self._allowance.run(request, folder)
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
