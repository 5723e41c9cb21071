"""How long each update took, with what the observers themselves do left out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .beginning import NOTHING, Beginning
from .events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import nn


class StepClock(Watcher):
    """Times updates from the end of one to the end of the next: by CUDA events on a GPU, where the CPU runs ahead of
    the device, and by the monotonic clock elsewhere.
    """

    def __init__(self, beginning: Beginning = NOTHING) -> None:
        self._earlier = beginning.samples_s
        self._cuda = False
        self._start: Any = None
        self._spans: list[tuple[Any, Any]] = []

    def attached(self, model: nn.Module) -> None:
        self._cuda = any(p.is_cuda for p in model.parameters())

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        if self._start is not None:
            self._spans.append((self._start, self._mark()))

    def restart(self) -> None:
        """The next update begins now; called when everything else that follows an update has been done."""
        self._start = self._mark()

    def leave_out(self) -> None:
        """The update that is under way is not timed."""
        self._start = None

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self) -> tuple[float, ...]:
        """One duration for each update but the first, whose start cannot be seen, and those that were left out."""
        if not self._cuda:
            return self._earlier + tuple(end - start for start, end in self._spans)
        import torch

        torch.cuda.synchronize()
        return self._earlier + tuple(start.elapsed_time(end) / 1000 for start, end in self._spans)

    def take(self) -> tuple[float, ...]:
        """The durations since they were last taken."""
        taken = self.seconds()
        self._earlier = ()
        self._spans.clear()
        return taken
