"""A folder through which a session's workers ask its controller for runs, and get them.

What is asked for stays there until the session ends: a worker that dies takes nothing with it, and what two workers ask
for under one ticket is one order. Files appear whole. The folder is the user's alone, and nothing in it outlives the
session.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ExecutorError


@dataclass(frozen=True)
class Order:
    """A run that is wanted. ``key``: that of the stored run; "" where it is not to be stored, nor taken from there.

    ``gpus`` and ``cpus`` are what it needs. ``title`` is for people.
    """

    ticket: str
    key: str
    title: str
    gpus: int
    cpus: int


class Mailbox:
    """Orders and answers in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, order: Order, parcel: bytes) -> None:
        """Order a run; ``parcel`` is the request for it, packed. To ask for what has been asked for changes nothing."""
        if not self._path(order.ticket, "order").exists():
            self._publish(order.ticket, "parcel", parcel)
            self._publish(order.ticket, "order", json.dumps(asdict(order)).encode())

    def orders(self) -> Iterator[Order]:
        """All that has been asked for."""
        for path in sorted(self.folder.glob("*.order")):
            yield Order(**json.loads(path.read_text(encoding="utf-8")))

    def parcel(self, order: Order) -> bytes:
        return self._path(order.ticket, "parcel").read_bytes()

    def answer(self, order: Order, text: str) -> None:
        self._publish(order.ticket, "answer", text.encode())

    def answered(self, ticket: str) -> str | None:
        """The answer; None while there is none. Raises ExecutorError where there will be none."""
        try:
            return self._path(ticket, "answer").read_text(encoding="utf-8")
        except FileNotFoundError:
            if not self.folder.is_dir():
                raise ExecutorError("the session's controller, which submits runs, has ended") from None
            return None

    def _publish(self, ticket: str, kind: str, data: bytes) -> None:
        try:
            handle, partial = tempfile.mkstemp(dir=self.folder, prefix=".partial-")
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(partial, self._path(ticket, kind))
        except FileNotFoundError:
            raise ExecutorError("the session's controller, which submits runs, has ended") from None

    def _path(self, ticket: str, kind: str) -> Path:
        return self.folder / f"{ticket}.{kind}"
