"""Everything that is observed of one training, except its memory, which is observed in a pass of its own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..isolation import evaluation_mode, preserved_generators
from ..run import Losses, Optimizer, Parameters, Timing
from .batches import BatchWatch
from .beginning import NOTHING, Beginning
from .clock import StepClock
from .events import Events, Watcher
from .loss import LossWatch, SupervisionWatch
from .optimizer import OptimizerWatch
from .parameters import ParameterWatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Evaluations(Watcher):
    """Takes the evaluation loss after chosen updates, and that on source data before the first one too, without a trace
    in the training.
    """

    def __init__(
        self,
        evaluate: Callable[[], float],
        at: Sequence[int],
        clock: StepClock,
        beginning: Beginning = NOTHING,
        on_source: Callable[[], float] | None = None,
    ) -> None:
        self._evaluate, self._at, self._clock, self._on_source = evaluate, frozenset(at), clock, on_source
        self._updates = beginning.updates
        self.events: Events | None = None
        self.losses, self.source = list(beginning.evaluations), list(beginning.source)

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        if self._on_source is not None and not self.source:
            self.source.append((0, self._loss(self._on_source)))

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._updates += 1
        if self._updates in self._at:
            self.losses.append((self._updates, self._loss(self._evaluate)))
            if self._on_source is not None:
                self.source.append((self._updates, self._loss(self._on_source)))
        self._clock.restart()

    def _loss(self, evaluate: Callable[[], float]) -> float:
        assert self.events is not None
        assert self.events.model is not None
        with self.events.muted(), preserved_generators(), evaluation_mode(self.events.model):
            return float(evaluate())


class Observation:
    """What was seen of one training. Read it after the training has ended."""

    def __init__(
        self,
        steps: int = 0,
        evaluate: Callable[[], float] | None = None,
        evaluate_at: Sequence[int] = (),
        besides: Sequence[Watcher] = (),
        first: Sequence[Watcher] = (),
        beginning: Beginning = NOTHING,
        on_source: Callable[[], float] | None = None,
    ) -> None:
        """``evaluate`` and ``on_source`` give the losses on evaluation and source data. ``besides`` watch too; the step
        times leave out what they do at the end of an update. ``first`` watch before all others. ``beginning`` is what
        was seen of the same training before it was interrupted.
        """
        self._beginning = beginning
        self._loss = LossWatch(beginning)
        self._supervision = SupervisionWatch(beginning)
        self._batches = BatchWatch(beginning)
        self._parameters = ParameterWatch(steps, beginning)
        self._optimizers = OptimizerWatch(beginning)
        self._clock = StepClock(beginning)
        evaluate = evaluate or (lambda: float("nan"))
        self._evaluations = Evaluations(evaluate, evaluate_at, self._clock, beginning, on_source)
        # The clock stops first at the end of an update and starts again last, so that it times no other watcher's work
        # there; the parameters are looked at before the optimizer changes them.
        watchers = [self._clock, self._loss, self._supervision, self._batches, self._parameters, self._optimizers]
        self.events = Events([*first, *watchers, *besides, self._evaluations])
        self._evaluations.events = self.events

    @property
    def updates(self) -> int:
        """How many times the main optimizer has stepped."""
        return self._evaluations._updates

    def latest_loss(self) -> Tensor | None:
        """The loss of the last update so far, on its device."""
        return self._loss.latest

    def leave_out(self) -> None:
        """The update that is under way is not timed: more happens in it than training."""
        self._clock.leave_out()

    @property
    def resumed(self) -> tuple[int, ...]:
        """The updates after which the training went on from a checkpoint."""
        begun = self._beginning.updates
        return (*self._beginning.resumed, begun) if begun else ()

    def so_far(self) -> Beginning:
        """All that has been seen, to go on from; between two updates, before the next one's first forward pass."""
        return dataclasses.replace(
            self._parameters.so_far(),
            updates=self.updates,
            losses=self._loss.values(),
            supervised_tokens=self._supervision.counts(),
            evaluations=tuple(self._evaluations.losses),
            source=tuple(self._evaluations.source),
            samples_s=self._clock.seconds(),
            optimizers=self._optimizers.records(),
            checksums=self._batches.checksums(),
            tokens=self._batches.tokens,
            resumed=self.resumed,
        )

    @property
    def loss(self) -> Losses:
        """The losses of all updates; the evaluation losses are those that a recipe takes."""
        return Losses(
            train=self._loss.values(),
            eval=tuple(self._evaluations.losses),
            supervised_tokens=self._supervision.counts(),
            batches=self._batches.digest(),
            source=tuple(self._evaluations.source),
        )

    @property
    def parameters(self) -> Parameters:
        """The model's parameters at the first update, and what became of them."""
        return Parameters(self._parameters.tensors())

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers that stepped, with the learning rate of each group in each update."""
        return self._optimizers.records()

    @property
    def time(self) -> Timing:
        """Seconds of each update, and its tokens."""
        tokens = self._batches.tokens / self.updates if self.updates else None
        return Timing(self._clock.seconds(), tokens or None)


@contextlib.contextmanager
def observe(model: nn.Module, steps: int = 0) -> Iterator[Observation]:
    """Observe the training of ``model`` in the body of a ``with`` statement.

    ``steps``, where it is known, is the number of the last update, in which gradients are looked at once more::

        with observe(model) as seen:
            my_training_loop(model)
        assert seen.updates == 100
        assert all(t.moved for t in seen.parameters.tensors if t.trainable)
    """
    observation = Observation(steps)
    with observation.events.listening() as events:
        events.attach(model)
        yield observation
