"""A training that goes on from a checkpoint beside the one that was never interrupted, compared state by state."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .rows import row_keys

if TYPE_CHECKING:
    from pathlib import Path

    from ..observers.trace import Trace
    from ..observers.update import Tensors, Update
    from .evidence import Evidence
    from .states import State, States
    from .training import Training

# Four epochs of the audit's rows, so that a checkpoint after every update makes more than ten of them: from there on
# names sort otherwise than numbers.
STEPS = 12
# After a first window, in the middle of the second epoch (or of the third, of a loop that leaves out the short window
# and so has two to an epoch); and after a short window, at that epoch's end.
MIDDLE, MIDDLE_OF_TWO, END = 4, 5, 6
# The one checkpoint of a loop that keeps no more than its last.
ONLY = 8
# Floats that JSON and torch round differently.
RELATIVE = 1e-6


@dataclass(frozen=True)
class Resumption:
    """``resumed`` went on from the checkpoint that ``uninterrupted`` wrote after update ``at``."""

    uninterrupted: Training
    resumed: Training
    at: int

    @property
    def expected(self) -> list[Update]:
        """The updates that were to be made after the checkpoint."""
        return self.uninterrupted.trace.updates[self.at :]

    @property
    def made(self) -> list[Update]:
        return self.resumed.trace.updates

    @property
    def states(self) -> tuple[State, State]:
        """Before the first of those updates: as it was, and as it was found again."""
        return _kept(self.uninterrupted).before[self.at], _kept(self.resumed).before[0]

    @property
    def parameters(self) -> tuple[Tensors, Tensors]:
        """Before the first of those updates: as they were, and as they were found again."""
        return self.expected[0].before, self.made[0].before

    @property
    def first_other_rate(self) -> int | None:
        """The index of the first update that is made at other learning rates."""
        pairs = enumerate(zip(self.expected, self.made, strict=False))
        return next((i for i, (a, b) in pairs if different_tensors(dict(enumerate(a.lr)), dict(enumerate(b.lr)))), None)

    @property
    def all_restored(self) -> bool:
        """Whether parameters, rows, rates, optimizer and generator are all as they were."""
        was, found = self.states
        return (
            len(self.expected) == len(self.made)
            and first_other_rows(self.expected, self.made) is None
            and self.first_other_rate is None
            and not different_tensors(*self.parameters)
            and not different_tensors(was.optimizer, found.optimizer)
            and _same_generator(was, found)
        )


def _same_generator(was: State, found: State) -> bool:
    import torch

    return was.generator is not None and found.generator is not None and torch.equal(was.generator, found.generator)


def resumptions(evidence: Evidence) -> list[Resumption]:
    """In the middle of an epoch and at its end. Raises NotApplicable for a loop that writes no checkpoint when
    ``job.save_steps`` asks for one, or goes on from none.
    """
    return evidence.once("resumptions", lambda: _resumptions(evidence))


def often_saved(evidence: Evidence) -> Training:
    """A training that was asked for a checkpoint after every update."""
    made = evidence.varied(steps=STEPS, save_steps=1)
    if not _kept(made).checkpoints:
        raise NotApplicable("the loop writes no checkpoint into job.output_dir when job.save_steps is set")
    return made


def _resumptions(evidence: Evidence) -> list[Resumption]:
    made = often_saved(evidence)
    middle = MIDDLE_OF_TWO if _ends_after_two(made.trace.updates) else MIDDLE
    points = [at for at in (middle, END) if at in _kept(made).kept()]
    if not points:
        # It keeps the newest only.
        made, points = evidence.varied(steps=STEPS, save_steps=ONLY), [ONLY]
        if ONLY not in _kept(made).kept():
            raise NotApplicable("no checkpoint but the last is kept to go on from")
    return [_resumption(evidence, made, at) for at in points]


def _ends_after_two(updates: list[Update]) -> bool:
    """Whether two updates see what the two before them saw: the whole of an epoch."""
    rows = [sorted(rows_of_update(one) + rows_of_update(other)) for one, other in itertools.pairwise(updates)]
    return len(rows) > 2 and bool(rows[0]) and rows[0] == rows[2]


def _resumption(evidence: Evidence, made: Training, at: int) -> Resumption:
    path: Path = _kept(made).kept()[at]
    resumed = evidence.varied(steps=STEPS, save_steps=1 if at != ONLY else ONLY, resume_from=path)
    found = Resumption(made, resumed, at)
    if len(made.trace.updates) < STEPS:
        raise NotApplicable("the loop ends before the audit's updates are made")
    if len(found.made) >= STEPS and _starts_over(made.trace, resumed.trace):
        raise NotApplicable("the loop does not go on from job.resume_from")
    return found


def _starts_over(uninterrupted: Trace, resumed: Trace) -> bool:
    """Whether nothing at all was read: neither parameters nor rates nor the position in the data."""
    begun, again = uninterrupted.updates[0], resumed.updates[0]
    same = not different_tensors(begun.before, again.before)
    return same and begun.lr == again.lr and rows_of_update(begun) == rows_of_update(again)


def _kept(training: Training) -> States:
    assert training.states is not None, "states are kept where checkpoints are written or gone on from"
    return training.states


def different_tensors(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[Any]:
    """The keys whose tensors (or numbers) differ, or that only one of the two has."""
    import torch

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            close = one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=RELATIVE, atol=0.0)
            return close or torch.equal(one, other)
        return abs(float(one) - float(other)) <= RELATIVE * abs(float(one))

    both = expected.keys() & found.keys()
    return [key for key in {**expected, **found} if key not in both or not same(expected[key], found[key])]


def first_other_rows(expected: list[Update], made: list[Update]) -> int | None:
    """The index of the first update that saw other rows, or the same in another order. Raises NotApplicable where the
    inputs show no rows.
    """
    pairs = [(rows_of_update(a), rows_of_update(b)) for a, b in zip(expected, made, strict=False)]
    if not any(rows for pair in pairs for rows in pair):
        raise NotApplicable("the model's inputs show no rows")
    return next((index for index, (a, b) in enumerate(pairs) if a != b), None)


def rows_of_update(update: Update) -> list[str]:
    return [key for forward in update.forwards for key in row_keys(forward)]
