"""What a training must find again when it goes on from a checkpoint: kept before each update, with the checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        self._known = _stamps(self.folder)
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
        stamps = _stamps(self.folder)
        written = [path for path, stamp in stamps.items() if self._known.get(path) != stamp]
        if written and self._updates:
            fresh = _checkpoint_of(written, self.folder, set(self._known), self._updates)
            # A folder that is written over again holds the newest state only.
            self.checkpoints = {update: path for update, path in self.checkpoints.items() if path != fresh}
            self.checkpoints[self._updates] = fresh
        self._known = stamps


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file below ``folder``, with what changes when it is written to."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def _checkpoint_of(written: list[Path], folder: Path, known: set[Path], update: int) -> Path:
    """The folder that one checkpoint fills, or its only file, told from the files that were written after ``update``.

    It is around the largest file: that file itself, if its name has the update's number; or a folder that holds nothing
    older and has that number, or any, in its name; or else the lowest.
    """
    largest = max(written, key=lambda path: path.stat().st_size)
    own = [p for p in largest.parents if folder in p.parents and not any(p in other.parents for other in known)]
    if update in _numbers(largest):
        return largest
    if not own:
        # One folder that is written over at each checkpoint, or one with a file for each.
        return largest.parent if largest.parent != folder and largest in known else largest
    of_update = [path for path in own if update in _numbers(path)]
    numbered = [path for path in own if _numbers(path)]
    return of_update[-1] if of_update else numbered[0] if numbered else own[0]


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]
