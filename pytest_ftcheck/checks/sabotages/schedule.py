"""Breaking the learning rate and its schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .optimizer import in_each_group
from .stepping import accumulating, after_each_step, around_each_backward, before_each_step
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from ...recipe import Job, Recipe


def rates_by_update(factor: Callable[[Job, int], float]) -> Callable[[Recipe], Recipe]:
    """A sabotage's ``apply``: update ``n`` (from 0) runs at ``factor(job, n)`` times its group's base rate."""

    def context(job: Job) -> contextlib.AbstractContextManager[Any]:
        steps: list[int] = []

        def scale(optimizer: torch.optim.Optimizer) -> None:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = factor(job, len(steps)) * group["initial_lr"]
            steps.append(1)

        return before_each_step(scale)

    return lambda recipe: around_training(recipe, context)


def _linear_to(share: float) -> Callable[[Job, int], float]:
    """Linear decay that ends after ``share`` of the updates."""
    return lambda job, step: max(0.0, 1 - step / (share * job.steps))


def _over_micro_batches(job: Job, step: int) -> float:
    """Linear decay over as many updates as there are micro-batches."""
    return 1 - step / (job.steps * job.accumulation)


def _rising(job: Job, step: int) -> float:
    """Warm-up in every update."""
    return (step + 1) / (job.steps + 1)


def _above(job: Job, group: dict[str, Any]) -> None:
    group["lr"] = 10 * job.lr


def _no_rate(job: Job, group: dict[str, Any]) -> None:
    group["lr"] = 0.0


@contextlib.contextmanager
def _per_micro_batch(job: Job) -> Iterator[None]:
    """Every backward pass takes the rates of all optimizers down a tenth."""
    known: list[torch.optim.Optimizer] = []

    def lower() -> None:
        for optimizer in known:
            for group in optimizer.param_groups:
                group["lr"] *= 0.9

    def remember(optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is one for one in known):
            known.append(optimizer)

    with after_each_step(remember), around_each_backward(before=lower):
        yield


@contextlib.contextmanager
def _stepped_elsewhere(job: Job, before_the_optimizer: bool) -> Iterator[None]:
    """The loop's steps of its schedules do nothing; they step before the optimizer, or never. A loop without a schedule
    gets one.
    """
    from torch.optim import lr_scheduler

    inner = lr_scheduler.LRScheduler.step
    made: list[Any] = []

    def only_when_created(this: Any, *args: Any, **kwargs: Any) -> None:
        if not getattr(this, "_step_count", 0):
            made.append(this)
            inner(this, *args, **kwargs)

    def step(optimizer: torch.optim.Optimizer) -> None:
        if not made:
            lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / (2 * job.steps))
        for schedule in made if before_the_optimizer else []:
            inner(schedule)

    with patched(lr_scheduler.LRScheduler, "step", only_when_created), before_each_step(step):
        yield


RATE_ABOVE_DECLARED = Sabotage("rate-above-declared", "ten times the declared learning rate", in_each_group(_above))
RATE_ZERO = Sabotage("rate-zero", "a learning rate of 0", in_each_group(_no_rate))
RATE_AS_FACTOR = Sabotage(
    "rate-as-factor", "the schedule returns the rate and not a factor on it", rates_by_update(lambda job, step: job.lr)
)
SCHEDULE_PER_MICRO_BATCH = Sabotage(
    "schedule-per-micro-batch",
    "the learning rate changes with every micro-batch",
    lambda recipe: around_training(accumulating(recipe), _per_micro_batch),
)
SCHEDULE_TOO_SHORT = Sabotage(
    "schedule-too-short", "the learning rate is 0 from the middle on", rates_by_update(_linear_to(0.5))
)
WARM_UP_AS_LONG_AS_THE_TRAINING = Sabotage(
    "warm-up-as-long-as-the-training", "the learning rate rises in every update", rates_by_update(_rising)
)
SCHEDULE_OVER_MICRO_BATCHES = Sabotage(
    "schedule-over-micro-batches",
    "the schedule is as long as the training has micro-batches",
    lambda recipe: rates_by_update(_over_micro_batches)(accumulating(recipe)),
)
SCHEDULE_NEVER_STEPPED = Sabotage(
    "schedule-never-stepped",
    "a schedule is built, and never stepped",
    lambda recipe: around_training(recipe, lambda job: _stepped_elsewhere(job, before_the_optimizer=False)),
)
SCHEDULE_BEFORE_OPTIMIZER = Sabotage(
    "schedule-before-optimizer",
    "the schedule steps before the optimizer",
    lambda recipe: around_training(recipe, lambda job: _stepped_elsewhere(job, before_the_optimizer=True)),
)
