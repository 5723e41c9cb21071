"""Whose a weight, a gradient or an optimizer's state is: the module of the parameter that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..observers.events import Watcher
from ..observers.memory import LiveBytes


class Owners(Watcher):
    """``module[number]`` is the name of the module that owns the storage with that number in ``log``."""

    def __init__(self, log: LiveBytes) -> None:
        self.log = log
        self.module: dict[int, str] = {}
        self._model: nn.Module | None = None
        self._optimizers: list[torch.optim.Optimizer] = []

    def attached(self, model: nn.Module) -> None:
        self._model = model
        self._note(model.named_parameters())
        self._note(model.named_buffers())

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        # Weights once more: a training may have cast or wrapped the model since.
        self._note(self._model.named_parameters())
        self._note((name, p.grad) for name, p in self._model.named_parameters() if p.grad is not None)

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        names: dict[Tensor, str] = {parameter: name for name, parameter in self._model.named_parameters()}
        for one in self._optimizers:
            for parameter, state in one.state.items():
                tensors = (value for value in state.values() if isinstance(value, Tensor))
                self._note((names.get(parameter, ""), tensor) for tensor in tensors)

    def _note(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        for name, tensor in tensors:
            number = self.log.register(tensor)
            if number is not None:
                self.module.setdefault(number, name.rpartition(".")[0])
