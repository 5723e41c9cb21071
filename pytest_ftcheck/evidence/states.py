"""What a training must find again when it goes on from a checkpoint: kept before each update, with the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..observers.checkpoints import Checkpoints
from ..observers.events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class State:
    """The state before one update. ``optimizer`` is {(parameter, entry): value} over all optimizers; ``generator`` is
    torch's CPU generator, at the first forward pass since the update before.
    """

    optimizer: dict[tuple[str, str], Tensor | float]
    generator: Tensor | None


@dataclass
class States(Watcher):
    """The states before all updates of a training, and the checkpoint that it wrote after each: update -> path."""

    folder: Path
    before: list[State] = field(default_factory=list)
    checkpoints: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names: dict[int, str] = {}
        self._optimizers: list[torch.optim.Optimizer] = []
        self._generator: Tensor | None = None
        self._written = Checkpoints(self.folder)
        self._updates = 0

    def attached(self, model: nn.Module) -> None:
        self._names = {id(p): name for name, p in model.named_parameters()}

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if self._generator is None and torch.is_grad_enabled():
            self._look_for_a_checkpoint()
            self._generator = torch.get_rng_state()

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.append(State(self._optimizer_state(), self._generator))
        self._generator = None
        self._updates += 1

    def training_ended(self) -> None:
        """The last checkpoint is written after the last update."""
        self._look_for_a_checkpoint()

    def kept(self) -> dict[int, Path]:
        """The checkpoints that are still there, as they were written."""
        return {update: path for update, path in self.checkpoints.items() if path.exists()}

    def _optimizer_state(self) -> dict[tuple[str, str], Tensor | float]:
        import torch

        found: dict[tuple[str, str], Tensor | float] = {}
        for optimizer in self._optimizers:
            for parameter, entries in optimizer.state.items():
                name = self._names.get(id(parameter), "?")
                for entry, value in entries.items():
                    if isinstance(value, torch.Tensor):
                        found[name, entry] = value.detach().clone()
                    elif isinstance(value, (int, float)):
                        found[name, entry] = float(value)
        return found

    def _look_for_a_checkpoint(self) -> None:
        """Whatever was written since the last look was written after the update before this moment."""
        fresh = self._written.look(self._updates)
        if fresh is not None:
            # A folder that is written over again holds the newest state only.
            self.checkpoints = {update: path for update, path in self.checkpoints.items() if path != fresh}
            self.checkpoints[self._updates] = fresh
