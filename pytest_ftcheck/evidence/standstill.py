"""A training that stands still: its loop runs as ever, and its parameters come back to where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..observers.events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Standstill(Watcher):
    """Undoes every update before the next forward pass, so that the gradients of all updates, and of two trainings, are
    taken at the same parameters and differ by nothing but their rows.
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        self._moved = False

    def attached(self, model: nn.Module) -> None:
        self._model, self._kept = model, []

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        if not self._kept:
            self._kept = [(p, p.detach().clone()) for p in self._model.parameters() if p.requires_grad]

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        self._moved = True

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        # Once after each update only: between two forward passes of one loss nothing may be written to.
        if self._moved:
            self._moved = False
            with torch.no_grad():
                for parameter, value in self._kept:
                    parameter.copy_(value)
