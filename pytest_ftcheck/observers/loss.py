"""The loss that was differentiated, and how many tokens it supervised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .beginning import NOTHING, Beginning
from .events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class LossWatch(Watcher):
    """Collects for each update the sum of the losses that ``backward`` was called on.

    A loop that divides each of n micro-batch losses by n so shows their mean, and one that forgets to shows n times
    as much: the number is the objective, not what a log made of it.
    """

    def __init__(self, beginning: Beginning = NOTHING) -> None:
        self._earlier = beginning.losses
        self._pending: list[Tensor] = []
        self._updates: list[Tensor] = []

    def backward_begins(self, loss: Tensor) -> None:
        # Left on its device: reading it here would make a GPU wait once a step.
        self._pending.append(loss.detach())

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        import torch

        if self._pending:
            pending = self._pending
            self._updates.append(pending[0] if len(pending) == 1 else torch.stack(pending).sum())
            self._pending = []

    @property
    def latest(self) -> Tensor | None:
        """The loss of the last update, on its device."""
        return self._updates[-1] if self._updates else None

    def values(self) -> tuple[float, ...]:
        """One loss for each update so far."""
        return self._earlier + tuple(float(value) for value in self._updates)


class SupervisionWatch(Watcher):
    """Counts the positions whose logits receive a gradient: what is supervised in fact, whatever labels, masks and
    loss function brought it about.
    """

    def __init__(self, beginning: Beginning = NOTHING) -> None:
        self._earlier = beginning.supervised_tokens
        self._pending: list[Tensor | None] = []
        self._updates: list[list[Tensor | None]] = []

    def forward_ends(self, output: Any) -> None:
        import torch

        if not torch.is_grad_enabled():
            return
        logits = logits_of(output)
        if logits is None or not logits.requires_grad:
            self._pending.append(None)
            return
        slot = len(self._pending)
        pending = self._pending
        pending.append(None)

        def count(gradient: Tensor) -> None:
            # The 2-norm: one reduction without a second tensor of the logits' size, and by far the fastest.
            pending[slot] = torch.linalg.vector_norm(gradient, dim=-1).count_nonzero()

        logits.register_hook(count)  # type: ignore[no-untyped-call]

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._updates.append(self._pending)
        self._pending = []

    def counts(self) -> tuple[int | None, ...]:
        """Supervised positions of each update so far; None where a forward pass showed no logits."""
        return self._earlier + tuple(_total(update) for update in self._updates)


def _total(counts: Sequence[Tensor | None]) -> int | None:
    """The positions of all forward passes of an update; None where one of them is not known."""
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def logits_of(output: Any) -> Tensor | None:
    """The logits in a model's output: the field of that name, or the output itself where it is a tensor."""
    import torch

    if isinstance(output, torch.Tensor):
        return output if output.dim() > 0 else None
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, dict):
        logits = output.get("logits")
    return logits if isinstance(logits, torch.Tensor) and logits.dim() > 0 else None
