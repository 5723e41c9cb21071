"""What came of a run on a node, as text: the run and the files that it has read, or the error in place of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from .. import errors
from ..codec import Record
from ..errors import ExecutorError, FtcheckError
from ..failures import one_line
from ..run import Run
from .executor import Trained

# How many frames of a traceback are told, counted from its end: the user's loop and what it called.
FRAMES = 4


class NodeTraceback(Exception):  # noqa: N818 - a text, as the cause of an error that has come from a node
    """The end of a traceback on another machine."""


@dataclass(frozen=True)
class Outcome(Record):
    """``run``, ``reads`` and ``stored`` as in ``Trained``; or the class of an ``error`` of ours, its text and the end
    of the traceback of what caused it.
    """

    node: str
    run: Run | None = None
    reads: dict[str, str] | None = None
    stored: bool = False
    error: str = ""
    text: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, node: str, train: Callable[[], Trained], told: Callable[[str], str]) -> Outcome:
        """What ``train()`` gives or raises. ``told`` turns texts of this machine into the session's."""
        try:
            trained = train()
        except Exception as error:
            return cls.failed(error, node, told)
        reads = None if trained.reads is None else dict(trained.reads)
        return cls(node, trained.run, reads, trained.stored)

    @classmethod
    def failed(cls, error: Exception, node: str, told: Callable[[str], str] = str) -> Outcome:
        """That of a run which ended with ``error``."""
        ours = isinstance(error, FtcheckError)
        origin = error.__cause__ if ours else error
        frames = "".join(traceback.format_exception(None, origin, origin.__traceback__, -FRAMES)) if origin else ""
        kind, text = (type(error).__name__, str(error)) if ours else (ExecutorError.__name__, one_line(error))
        return cls(node, error=kind, text=told(text), traceback=told(frames))

    def trained(self) -> Trained:
        """The run. Raises the error in place of it, with the end of the node's traceback as its cause."""
        if self.run is not None:
            return Trained(self.run, self.reads, self.stored)
        kind = getattr(errors, self.error, None)
        if not (isinstance(kind, type) and issubclass(kind, FtcheckError)):
            kind = ExecutorError
        error = kind(self.text)
        if self.traceback:
            error.__cause__ = NodeTraceback(f"on node {self.node}\n{self.traceback.rstrip()}")
        raise error
