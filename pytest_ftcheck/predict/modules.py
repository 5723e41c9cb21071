"""Which module an operation belongs to, in the forward pass and in the backward pass.

Forward, a stack of the modules that are being called says so. Backward, the autograd node that is being executed has
the number that it was given when it was made, and so belongs to the module that was being called then.
"""

from __future__ import annotations

import bisect
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from ..observers.events import Watcher

OUTSIDE = ""


class ModuleWatch(Watcher):
    """Keeps track of the module that is being called; ``current()`` is its name in the model."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._stack: list[str] = []
        # From autograd node number self._from[i] on, nodes were made by the module self._by[i].
        self._from: list[int] = []
        self._by: list[str] = []
        self._hooks = [
            global_hooks.register_module_forward_pre_hook(self._enters),
            global_hooks.register_module_forward_hook(self._leaves, always_call=True),
        ]

    def attached(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        self._from.clear()
        self._by.clear()

    def current(self) -> str:
        """The name of the module that the operation being done belongs to; ``""`` for the model itself, or none."""
        if self._stack:
            return self._stack[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return OUTSIDE
        index = bisect.bisect_right(self._from, node._sequence_nr()) - 1
        return self._by[index] if index >= 0 else OUTSIDE

    @property
    def inside(self) -> bool:
        """Whether a module is being called, and not only the loop around it."""
        return bool(self._stack)

    def _enters(self, module: nn.Module, args: Any) -> None:
        self._stack.append(self._names.get(id(module), self._stack[-1] if self._stack else OUTSIDE))
        self._mark()

    def _leaves(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            self._stack.pop()
        self._mark()

    def _mark(self) -> None:
        self._from.append(torch._C._autograd._get_sequence_nr())
        self._by.append(self._stack[-1] if self._stack else OUTSIDE)
