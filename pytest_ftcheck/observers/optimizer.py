"""What stepped: optimizers, their parameter groups, and the learning rate of every update."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..run import Optimizer, OptimizerGroup
from .beginning import NOTHING, Beginning
from .events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import nn


class OptimizerWatch(Watcher):
    """Records the groups of each optimizer at its first step, and their learning rates at every step."""

    def __init__(self, beginning: Beginning = NOTHING) -> None:
        self._earlier = beginning.optimizers
        self._model: nn.Module | None = None
        self._names: dict[int, str] = {}
        # Kept alive by the reference: an id is only unique while its object lives.
        self._seen: dict[int, torch.optim.Optimizer] = {}
        self._groups: dict[int, list[tuple[tuple[str, ...], float | None]]] = {}
        self._rates: dict[int, list[tuple[float, ...]]] = {}

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        key = id(optimizer)
        if key not in self._seen:
            # Now, and not when the model was attached: what shards a model puts other parameters in their places.
            assert self._model is not None
            self._names = {id(p): name for name, p in self._model.named_parameters()}
            self._seen[key] = optimizer
            self._groups[key] = [self._describe(group) for group in optimizer.param_groups]
            self._rates[key] = []
        self._rates[key].append(tuple(float(group.get("lr", float("nan"))) for group in optimizer.param_groups))

    def _describe(self, group: dict[str, Any]) -> tuple[tuple[str, ...], float | None]:
        names = tuple(self._names.get(id(p), "(not a parameter of the model)") for p in group["params"])
        decay = group.get("weight_decay")
        return names, None if decay is None else float(decay)

    def records(self) -> tuple[Optimizer, ...]:
        """One record for each optimizer, in the order of their first steps."""
        return joined(self._earlier, self._of_now())

    def _of_now(self) -> tuple[Optimizer, ...]:
        return tuple(
            Optimizer(
                name=type(optimizer).__name__,
                groups=tuple(
                    OptimizerGroup(names, decay, tuple(rates[i] for rates in self._rates[key] if i < len(rates)))
                    for i, (names, decay) in enumerate(self._groups[key])
                ),
            )
            for key, optimizer in self._seen.items()
        )


def joined(earlier: tuple[Optimizer, ...], later: tuple[Optimizer, ...]) -> tuple[Optimizer, ...]:
    """The optimizers of a training in two parts; those of the second part go on where their like of the first ended."""
    if [_form(one) for one in earlier] != [_form(one) for one in later]:
        return earlier + later
    return tuple(
        Optimizer(
            one.name,
            tuple(dataclasses.replace(a, lr=a.lr + b.lr) for a, b in zip(one.groups, other.groups, strict=True)),
        )
        for one, other in zip(earlier, later, strict=True)
    )


def _form(optimizer: Optimizer) -> tuple[object, ...]:
    return optimizer.name, *((group.parameters, group.weight_decay) for group in optimizer.groups)
