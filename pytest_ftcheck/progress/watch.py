"""Seeing how far a training has come, at next to no cost and without a trace in what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..observers.events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Between two looks at an update a watcher asks for the time, and for nothing else.
EVERY_S = 1.0


class ProgressWatch(Watcher):
    """Tells (step, loss, seconds left) after an update, once in ``EVERY_S``.

    Its place is among the watchers between the two ends of the step clock, which leaves out what it does there.
    ``latest`` gives the loss of the update that has just ended, where somebody has it.
    """

    def __init__(self, steps: int, tell: Callable[[int, float | None, float | None], None], done: int = 0) -> None:
        self.latest: Callable[[], Tensor | None] = lambda: None
        self._steps, self._tell = steps, tell
        self._step = self._done = done
        self._first_s = 0.0
        self._due_s = time.monotonic() + EVERY_S
        self._reading = LossReading()

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._step += 1
        now_s = time.monotonic()
        if self._step == self._done + 1:
            # The first update compiles and allocates, and says little about the others.
            self._first_s = now_s
        if now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            self._tell(self._step, self._reading.of(self.latest()), self._left_s(now_s))

    def _left_s(self, now_s: float) -> float | None:
        left = self._steps - self._step
        timed = self._step - self._done - 1
        return (now_s - self._first_s) / timed * left if timed > 0 and left > 0 else None


class LossReading:
    """The number in a loss, without making a GPU wait: a copy to the host is begun at one look, behind the work that
    is queued, and read at a later one if it has arrived. So what is shown there is a second old.
    """

    def __init__(self) -> None:
        self._copy: Tensor | None = None
        self._arrived: Any = None
        self._value: float | None = None

    def of(self, loss: Tensor | None) -> float | None:
        """The latest value that can be had; None where there is none yet."""
        if loss is not None and not loss.is_cuda:
            self._value = float(loss) if loss.device.type == "cpu" else None
        elif loss is not None:
            self._take()
            self._begin(loss)
        return self._value

    def _take(self) -> None:
        if self._copy is not None and self._arrived.query():
            self._value, self._copy = float(self._copy), None

    def _begin(self, loss: Tensor) -> None:
        import torch

        # Work that is being recorded into a graph must not be joined by ours.
        if self._copy is None and not torch.cuda.is_current_stream_capturing():
            self._copy = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
            self._copy.copy_(loss, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
