"""How the workers of pytest-xdist get their runs: they ask the controller, which alone submits, and wait.

By a local socket, over which nothing but text and the request for a run goes; the controller hands that on as it is.
What is asked for stays asked for when the worker dies that has asked.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

from ..codec import Record
from ..errors import ExecutorError
from .executor import in_background
from .outcome import Outcome
from .remote import Resources
from .task import Task

CarryOut = Callable[[Task, bytes], Outcome]
# What may go wrong with a connection whose other end is going.
GONE = (OSError, EOFError, AuthenticationError)


@dataclass(frozen=True)
class Contact(Record):
    """What a worker must know to ask. ``secret`` is that of the session: others are not answered."""

    address: str
    secret: str
    resources: Resources

    def carry_out(self, task: Task, parcel: bytes) -> Outcome:
        """The outcome of a run that the controller submits, or has submitted. Raises ExecutorError where it is gone."""
        try:
            with Client(self.address, authkey=bytes.fromhex(self.secret)) as connection:
                connection.send_bytes(task.to_json().encode())
                connection.send_bytes(parcel)
                return Outcome.from_json(connection.recv_bytes().decode())
        except GONE:
            raise ExecutorError("the session's controller, which submits runs, has ended") from None


class Relay:
    """The controller's end: answers with what ``carry_out`` gives, called once for each ticket."""

    def __init__(self, carry_out: CarryOut, resources: Resources) -> None:
        self._carry_out = carry_out
        secret = secrets.token_hex(32)
        self._listener = Listener(authkey=bytes.fromhex(secret))
        self.contact = Contact(str(self._listener.address), secret, resources)
        self._submitted: dict[str, Future[Outcome]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="ftcheck-relay", daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed.set()
        with contextlib.suppress(*GONE):
            # Whoever waits for a connection does not see that it is closed. This one does not wait for an answer.
            Client(self.contact.address).close()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(*GONE):
                connection = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        # A worker may be gone by the time that its run is there.
        with contextlib.suppress(*GONE), connection:
            task, parcel = Task.from_json(connection.recv_bytes().decode()), connection.recv_bytes()
            try:
                outcome = self._outcome(task, parcel).result()
            except Exception as error:  # nobody else would see it, and the worker would wait for ever
                outcome = Outcome.failed(error, "")
            connection.send_bytes(outcome.to_json().encode())

    def _outcome(self, task: Task, parcel: bytes) -> Future[Outcome]:
        with self._lock:
            if task.ticket not in self._submitted:
                self._submitted[task.ticket] = in_background(lambda: self._carry_out(task, parcel))
            return self._submitted[task.ticket]
