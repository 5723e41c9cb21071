"""What becomes of the gradients of an update, from the first backward pass of its window to the optimizer's step."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from .windows import dot, norm

if TYPE_CHECKING:
    from ..observers.update import Tensors, Update
    from .evidence import Evidence

# How exactly a direction is kept by multiplying with one number: a few roundings of float32, or of bfloat16 (2^-8
# each).
FLOAT32, HALF = 1e-5, 0.03


@dataclass(frozen=True)
class Window:
    """One update whose gradients were kept. ``number`` counts from 1; ``names`` are the parameters of the optimizer
    that makes the updates. Gradients are by name, absent ones left out.
    """

    number: int
    update: Update
    names: frozenset[str]

    @property
    def scale(self) -> float:
        """The factor of a gradient scaler; 1 without one."""
        return self.update.backwards[-1].scale

    @property
    def left_over(self) -> Tensors:
        """What the window began with."""
        return self._own(self.update.backwards[0].before)

    @property
    def held(self) -> Tensors:
        """What the parameters held after the window's last backward pass."""
        return self._own(self.update.backwards[-1].after)

    @property
    def stepped(self) -> Tensors:
        """What the optimizer's step was given."""
        return self._own(self.update.gradients)

    @functools.cached_property
    def contributions(self) -> list[Tensors]:
        """What each backward pass added, in float64: differences of float32 are exact there, so they add up exactly."""
        return [_difference(self._own(b.after), self._own(b.before)) for b in self.update.backwards]

    @functools.cached_property
    def total(self) -> Tensors:
        """The sum of all contributions."""
        summed: Tensors = {}
        for part in self.contributions:
            for name, gradient in part.items():
                summed[name] = summed[name] + gradient if name in summed else gradient
        return summed

    @property
    def tolerance(self) -> float:
        import torch

        halves = (torch.bfloat16, torch.float16)
        return HALF if any(g.dtype in halves for g in self.stepped.values()) else FLOAT32

    def changes(self) -> list[tuple[Tensors, Tensors]]:
        """(what was accumulated, what the next backward pass found) wherever the two differ."""
        pairs = [(self._own(a.after), self._own(b.before)) for a, b in itertools.pairwise(self.update.backwards)]
        return [(one, other) for one, other in pairs if norm(_difference(one, other)) > 0]

    def _own(self, tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if name in self.names}


def windows(evidence: Evidence) -> list[Window]:
    """The updates whose gradients were kept, without those whose gradients are not finite. NotApplicable where no
    backward pass of them was seen.
    """
    return evidence.once(windows, lambda: _windows(evidence))


def _windows(evidence: Evidence) -> list[Window]:
    updates = evidence.trace.updates
    # Of several optimizers only the first is known at the first update; it is the one whose steps make the updates.
    count = len(updates[0].groups)
    found = []
    for number, update in enumerate(updates, start=1):
        names = frozenset(name for group in update.groups[:count] for name in group.names if name is not None)
        if update.deep and update.backwards and not update.not_finite:
            found.append(Window(number, update, names))
    if not any(norm(window.held) > 0 for window in found):
        raise NotApplicable("no backward pass that leaves gradients on the optimizer's parameters was seen")
    return found


def multiple(of: Tensors, found: Tensors, within: float) -> float | None:
    """The number c with found = c · of, up to ``within`` of its norm; None where there is none."""
    size = dot(of, of)
    if not size > 0:
        return None
    factor = dot(found, of) / size
    distance = norm(_difference(found, {name: factor * tensor for name, tensor in of.items()}))
    return factor if distance <= within * max(norm(found), abs(factor) * size**0.5) else None


def _difference(one: Tensors, other: Tensors) -> Tensors:
    """one − other in float64; absent tensors count as zero."""
    result = {name: tensor.double() for name, tensor in one.items()}
    for name, tensor in other.items():
        result[name] = result[name] - tensor.double() if name in result else -tensor.double()
    return result
