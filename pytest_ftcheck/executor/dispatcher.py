"""The side of the controller: each order of the mailbox is answered from the store, or submitted, once."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from pathlib import Path
from typing import Protocol

from ..errors import ExecutorError
from ..failures import one_line
from ..run import Run
from ..store import Store
from .elsewhere import Elsewhere, Surroundings
from .mailbox import Mailbox, Order
from .node import Controller
from .outcome import Outcome

POLL_S = 0.05


class Machines(Protocol):
    """What runs are submitted to."""

    def surroundings(self) -> Surroundings: ...

    def carry_out(self, order: Order, parcel: bytes, controller: Controller) -> Outcome: ...

    def disconnect(self) -> None: ...


class Dispatcher:
    """Watches a mailbox of its own from a thread, until it is closed. ``cache_dir`` is that of ``store``, where it is a
    URL, to which the nodes publish by themselves.
    """

    def __init__(self, machines: Machines, store: Store | None, cache_dir: str | None) -> None:
        self._machines, self._store = machines, store
        self._controller = Controller.here(cache_dir)
        self._folder = tempfile.TemporaryDirectory(prefix="ftcheck-mailbox-", ignore_cleanup_errors=True)
        self._mailbox = Mailbox(Path(self._folder.name))
        self._closed = threading.Event()
        self._seen: set[str] = set()
        self.elsewhere = Elsewhere(self._mailbox.folder, machines.surroundings())
        self._watching = threading.Thread(target=self._watch, name="ftcheck-mailbox", daemon=True)
        self._watching.start()

    def close(self) -> None:
        """Accept no more orders, and give up those that are not answered."""
        self._closed.set()
        self._watching.join()
        self._machines.disconnect()
        self._folder.cleanup()

    def _watch(self) -> None:
        while not self._closed.wait(POLL_S):
            for order in self._mailbox.orders():
                if order.ticket not in self._seen:
                    self._seen.add(order.ticket)
                    # One each: most of their time they wait, for nodes or for other sessions.
                    threading.Thread(target=self._serve, args=(order,), daemon=True).start()

    def _serve(self, order: Order) -> None:
        try:
            outcome = self._outcome(order)
        except BaseException as error:  # nobody else would see it, and a worker would wait for ever
            outcome = Outcome(error=ExecutorError(f"{order.title} cannot be carried out: {one_line(error)}"))
        # A session that has ended has no mailbox, and nobody who waits.
        with contextlib.suppress(ExecutorError):
            self._mailbox.answer(order, outcome.to_json())

    def _outcome(self, order: Order) -> Outcome:
        while not self._closed.is_set():
            stored = self._read(order)
            if stored is not None:
                return Outcome(run=stored)
            with self._claim(order) as ours:
                if ours:
                    return self._submit(order)
            time.sleep(self._store.poll_s if self._store else POLL_S)
        raise ExecutorError("the session has ended")

    def _claim(self, order: Order) -> contextlib.AbstractContextManager[bool]:
        """Held here while a node works: what waits for another session's run must not occupy a GPU."""
        return self._store.claim(order.key) if self._store and order.key else contextlib.nullcontext(True)

    def _submit(self, order: Order) -> Outcome:
        # Another session may have finished it between the look and the claim.
        stored = self._read(order)
        if stored is not None:
            return Outcome(run=stored)
        outcome = self._machines.carry_out(order, self._mailbox.parcel(order), self._controller)
        if self._store and order.key and outcome.run is not None and self._read(order) is None:
            self._store.write(order.key, outcome.run, outcome.reads)
        return outcome

    def _read(self, order: Order) -> Run | None:
        return self._store.read(order.key) if self._store and order.key else None
