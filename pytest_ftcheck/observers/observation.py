"""Everything that is observed of one training, except its memory, which is observed in a pass of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..isolation import evaluation_mode, preserved_generators
from ..run import Losses, Optimizer, Parameters, Timing
from .batches import BatchWatch
from .clock import StepClock
from .events import Events, Watcher
from .loss import LossWatch, SupervisionWatch
from .optimizer import OptimizerWatch
from .parameters import ParameterWatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Evaluations(Watcher):
    """Takes the evaluation loss after chosen updates, without a trace in the training."""

    def __init__(self, evaluate: Callable[[], float], at: Sequence[int], clock: StepClock) -> None:
        self._evaluate, self._at, self._clock = evaluate, frozenset(at), clock
        self._updates = 0
        self.events: Events | None = None
        self.losses: list[tuple[int, float]] = []

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._updates += 1
        if self._updates in self._at:
            self.take(self._updates)
        self._clock.restart()

    def take(self, step: int) -> None:
        """Evaluate now, as the state after ``step`` updates."""
        assert self.events is not None
        assert self.events.model is not None
        with self.events.muted(), preserved_generators(), evaluation_mode(self.events.model):
            self.losses.append((step, float(self._evaluate())))


class Observation:
    """What was seen of one training. Read it after the training has ended."""

    def __init__(
        self,
        steps: int = 0,
        evaluate: Callable[[], float] | None = None,
        evaluate_at: Sequence[int] = (),
        besides: Sequence[Watcher] = (),
    ) -> None:
        """``besides`` watch too; the step times leave out what they do at the end of an update."""
        self._loss = LossWatch()
        self._supervision = SupervisionWatch()
        self._batches = BatchWatch()
        self._parameters = ParameterWatch(steps)
        self._optimizers = OptimizerWatch()
        self._clock = StepClock()
        self._evaluations = Evaluations(evaluate or (lambda: float("nan")), evaluate_at, self._clock)
        # The clock stops first at the end of an update and starts again last, so that it times no other watcher's work
        # there; the parameters are looked at before the optimizer changes them.
        watchers = [self._clock, self._loss, self._supervision, self._batches, self._parameters, self._optimizers]
        self.events = Events([*watchers, *besides, self._evaluations])
        self._evaluations.events = self.events

    @property
    def updates(self) -> int:
        """How many times the main optimizer has stepped."""
        return self._evaluations._updates

    def latest_loss(self) -> Tensor | None:
        """The loss of the last update so far, on its device."""
        return self._loss.latest

    @property
    def loss(self) -> Losses:
        return Losses(
            train=self._loss.values(),
            eval=tuple(self._evaluations.losses),
            supervised_tokens=self._supervision.counts(),
            batches=self._batches.digest(),
        )

    @property
    def parameters(self) -> Parameters:
        return Parameters(self._parameters.tensors())

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        return self._optimizers.records()

    @property
    def time(self) -> Timing:
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
