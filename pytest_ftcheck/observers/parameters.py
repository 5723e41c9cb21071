"""Which parameters trained: their names and flags, whether they had a gradient, and whether they moved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..distributed.world import in_parts, local
from ..run import ParameterTensor
from ..theory.parameters import base_name
from .beginning import NOTHING, Beginning
from .events import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# A LoRA's A has a gradient of exactly zero in the first update, because B is zero; by the third all must have one.
PROBED_UPDATES = 3


class ParameterWatch(Watcher):
    """Looks at every parameter before the first update and after the last, and at gradients in the first three updates
    and the last (``steps``); in between it costs nothing.
    """

    def __init__(self, steps: int, beginning: Beginning = NOTHING) -> None:
        self._steps = steps
        self._updates = beginning.updates
        self._model: nn.Module | None = None
        self._before = dict(beginning.before)
        self._trainable = dict(beginning.trainable)
        self._optimized: set[int] = set()
        self._optimized_earlier = frozenset(beginning.optimized)
        self._with_gradient = set(beginning.with_gradient)

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        # The main optimizer is announced before its update is counted, others after.
        if self._is_probed(self._updates) or self._is_probed(self._updates + 1):
            self._optimized.update(id(p) for group in optimizer.param_groups for p in group["params"])

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        self._updates += 1
        if self._updates == 1:
            self._before = {name: digest(p) for name, p in self._model.named_parameters()}
            self._trainable = {name: p.requires_grad for name, p in self._model.named_parameters()}
        if self._is_probed(self._updates):
            self._probe_gradients()

    def _is_probed(self, update: int) -> bool:
        return update <= PROBED_UPDATES or update == self._steps

    def _probe_gradients(self) -> None:
        assert self._model is not None
        for name, parameter in self._model.named_parameters():
            gradient = parameter.grad
            if name not in self._with_gradient and gradient is not None and bool(local(gradient).any()):
                self._with_gradient.add(name)

    def so_far(self) -> Beginning:
        """What has been seen of the parameters, to go on from."""
        names = self._model.named_parameters() if self._model is not None else ()
        optimized = {name for name, p in names if id(p) in self._optimized} | self._optimized_earlier
        return Beginning(
            before=dict(self._before),
            trainable=dict(self._trainable),
            optimized=tuple(sorted(optimized)),
            with_gradient=tuple(sorted(self._with_gradient)),
        )

    def tensors(self) -> tuple[ParameterTensor, ...]:
        """Every parameter, tied ones once; to be called when training is over."""
        if self._model is None:
            return ()
        return tuple(
            ParameterTensor(
                name=name,
                module=base_name(name),
                shape=tuple(parameter.shape),
                dtype=str(parameter.dtype).removeprefix("torch."),
                trainable=self._trainable.get(name, parameter.requires_grad),
                optimized=id(parameter) in self._optimized or name in self._optimized_earlier,
                gradient=name in self._with_gradient,
                moved=name in self._before and digest(parameter) != self._before[name],
            )
            for name, parameter in in_parts(self._model).named_parameters()
        )


def digest(tensor: Tensor) -> str:
    """A digest of a tensor's bits; equal only where every bit is (so -0 and 0 differ, and NaN equals itself). Of a
    tensor that is spread over the ranks: of this rank's part.
    """
    import torch

    data = local(tensor.detach()).cpu().contiguous().reshape(-1)
    return hashlib.blake2b(data.view(torch.uint8).numpy().data, digest_size=16).hexdigest()
