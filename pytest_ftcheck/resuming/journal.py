"""Noting each checkpoint of a training while it runs, and seeing that one which goes on does so from where it was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from ..observers.beginning import NOTHING, Beginning
from ..observers.checkpoints import Checkpoints
from ..observers.events import Watcher
from ..reads import count_as_opened, opened_so_far
from .moment import Start
from .unfinished import Note, Unfinished

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..observers.observation import Observation
    from ..recipe import Job


class Journal(Watcher):
    """Keeps ``unfinished``; with ``note``, of a training that goes on from that checkpoint.

    It watches before all others, so that what it has seen of an update's start is not in what they have seen so far.
    """

    def __init__(self, unfinished: Unfinished, note: Note | None) -> None:
        self.output = unfinished.output
        self.beginning = note.seen if note else NOTHING
        self._unfinished, self._note = unfinished, note
        self._expected = note.moment if note else None
        self._checkpoints = Checkpoints(unfinished.output)
        self._model: nn.Module | None = None
        self._between_updates = True
        self._start: Start | None = None
        self._noted: tuple[Path, Beginning] | None = None
        self._seen: Observation | None = None
        self._job: Job | None = None
        self._wrote = False

    def begin(self, job: Job, seen: Observation) -> None:
        """``job`` is about to be trained, and ``seen`` has what is seen of that."""
        self._job, self._seen = job, seen
        job.save_steps = job.recipe.save_steps
        if self._note is not None:
            job.resume_from = self.output / self._note.checkpoint
            count_as_opened(self._note.opened)

    def end(self) -> None:
        """It has come to its end. Warns where nothing was there to go on from, had it been interrupted."""
        assert self._job is not None
        every = self._job.recipe.save_steps
        if every is not None and self._note is None and not self._wrote and self._job.steps > every:
            warnings.warn(
                f"ftcheck: train(job) wrote no checkpoint into job.output_dir in {self._job.steps} updates, though "
                f"Recipe.save_steps is {every}: had it been interrupted, it could not be resumed",
                stacklevel=2,
            )

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if not (self._between_updates and torch.is_grad_enabled()):
            return
        assert self._model is not None
        assert self._seen is not None
        self._between_updates = False
        # What was written since the update before was written after it: it is whole.
        checkpoint = self._checkpoints.look(self._seen.updates)
        if checkpoint is None and self._expected is None:
            return
        seen = self._seen
        seen.leave_out()
        self._start = Start.of(self._model, args, kwargs)
        self._noted = (checkpoint, seen.so_far()) if checkpoint is not None else None

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        if self._start is None:
            return
        assert self._model is not None
        assert self._seen is not None
        moment, self._start = self._start.completed(self._model, optimizer), None
        if self._expected is not None:
            different, self._expected = self._expected.different(moment), None
            if different:
                update, what = self._seen.updates + 1, ", ".join(different)
                raise TrainingError(f"update {update} began with other {what} than before")
        if self._noted is not None:
            self._unfinished.write(*self._noted, moment, opened_so_far())
            self._wrote, self._noted = True, None

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._between_updates = True
