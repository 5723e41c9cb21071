"""A training that goes on from where an interrupted one has left a checkpoint."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import OutOfMemoryError, TimeLimitError, TrainingError
from ..scratch import prefix
from .journal import Journal
from .unfinished import Unfinished

T = TypeVar("T")


def resumable(unfinished: Unfinished, what: str, train: Callable[[Journal | None], T]) -> T:
    """What ``train`` gives: from the last checkpoint on, where there is one. Whatever does not go on exactly where it
    was is made anew, with a warning that names it as ``what``.
    """
    if not unfinished.open():
        # The run itself cannot be stored there either, which is told of when that is tried.
        return train(None)
    note = unfinished.latest()
    if note is not None:
        unfinished.go_back_to(note)
        try:
            return train(Journal(unfinished, note))
        except (TimeLimitError, OutOfMemoryError):
            raise
        except TrainingError as error:
            why = str(error).splitlines()[0]
        after = f"{what}: not resumed after update {note.seen.updates}"
        warnings.warn(f"ftcheck: {after}, but trained anew: {why}", stacklevel=2)
    unfinished.remove()
    unfinished.open()
    return train(Journal(unfinished, None))


@contextlib.contextmanager
def output_folder(journal: Journal | None) -> Iterator[Path]:
    """Where a loop writes: a folder that nobody keeps, unless there is a journal of it."""
    if journal is not None:
        yield journal.output
        return
    with tempfile.TemporaryDirectory(prefix=prefix()) as folder:
        yield Path(folder)
