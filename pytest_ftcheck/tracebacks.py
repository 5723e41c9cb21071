"""The errors that belong to one error, and what their tracebacks keep alive.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, those that it came from (hidden ones too), and the members of groups."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # Exception groups by what they have: Python 3.10 knows them from a backport only.
        todo += [one.__context__, one.__cause__, *getattr(one, "exceptions", ())]


def clear_locals(error: BaseException | None) -> None:
    """Let go of what the finished frames of the whole chain hold: batches, activations, optimizers, models.

    The tracebacks stay, and print as before. They are kept by more than one (pytest's report of the test, the cached
    result of a fixture, ``sys.last_exc``), so what they lead to must be emptied where it is.
    """
    for one in chain(error):
        traceback.clear_frames(one.__traceback__)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            # Before Python 3.13 a frame whose locals were read (by pytest) keeps a copy; read anew, it is empty.
            _ = frame.f_locals


def release(error: BaseException) -> None:
    """The same, and the tracebacks are dropped: for an error that goes on as the context of another one, because they
    lead to frames that have not finished yet, which hold the model.
    """
    clear_locals(error)
    for one in chain(error):
        one.__traceback__ = None
