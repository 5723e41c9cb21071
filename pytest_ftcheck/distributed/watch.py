"""What sets one rank apart from another, update by update: digests of what must be equal, and what was wrapped."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..observers.events import Watcher
from ..observers.parameters import digest

if TYPE_CHECKING:
    import torch
    from torch import nn

Digests = dict[str, str]


class RankWatch(Watcher):
    """Of every update the digests of gradients, parameters and buffers. A tensor that is spread over the ranks counts
    by this rank's part. Buffers are looked at when the first forward pass of an update begins: by then
    DistributedDataParallel has made them equal, and each rank's own data change them after.
    """

    def __init__(self, wrappers: Wrappers) -> None:
        self._wrappers = wrappers
        self._model: nn.Module | None = None
        self._begun = False
        self.start: Digests = {}
        self.gradients: list[Digests] = []
        self.parameters: list[Digests] = []
        self.buffers: list[Digests] = []
        self.sharded: dict[str, int] = {}
        self.outside: list[str] = []
        self.moved: list[str] = []
        self.foreign = 0

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if not self._begun and torch.is_grad_enabled():
            self._begun = True
            assert self._model is not None
            self.buffers.append({name: digest(b) for name, b in self._model.named_buffers()})

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        named = dict(self._model.named_parameters())
        if not self.gradients:
            self.start = {name: digest(p) for name, p in named.items()}
            self.sharded = {name: dim for name, p in named.items() if (dim := shard_of(p)) is not None}
            self.outside, self.moved = self._wrappers.compared({n: p for n, p in named.items() if p.requires_grad})
            ids = {id(p) for p in named.values()}
            self.foreign = sum(id(p) not in ids for group in optimizer.param_groups for p in group["params"])
        self.gradients.append({name: digest(p.grad) for name, p in named.items() if p.grad is not None})

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._model is not None
        self._begun = False
        self.parameters.append({name: digest(p) for name, p in self._model.named_parameters()})


def shard_of(parameter: Any) -> int | None:
    """The dimension in which a tensor is spread over the ranks; None where each rank has all of it, and −1 where it is
    spread in a way that cannot be put together here.
    """
    placements = getattr(parameter, "placements", None)
    if placements is None:
        return None
    if all(one.is_replicate() for one in placements):
        return None
    return placements[0].dim if len(placements) == 1 and placements[0].is_shard() else -1


class Wrappers:
    """What DistributedDataParallel was given in this process, and what samplers of torch's drew, from now on: a rank's
    process is ours, and ends with its training.
    """

    def __init__(self) -> None:
        # Parameter -> (dtype, device) when it was wrapped. Kept alive: an id is unique only while its object lives.
        self._held: dict[int, tuple[Any, str]] = {}
        self._wrapped = False
        # The epoch of each iteration of a sampler that shuffles, by sampler.
        self.epochs: dict[int, list[int]] = {}
        self._patch_wrapper()
        self._patch_sampler()

    def compared(self, trainable: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Names of trainable parameters that no wrapper holds, and of those that have another dtype or device than when
        they were wrapped. Both empty where nothing is wrapped.
        """
        if any(shard_of(p) is not None for p in trainable.values()):
            return [name for name, p in trainable.items() if not hasattr(p, "placements")], []
        if not self._wrapped:
            return [], []
        outside = [name for name, p in trainable.items() if id(p) not in self._held]
        moved = [name for name, p in trainable.items() if id(p) in self._held and self._held[id(p)][1] != _place(p)]
        return outside, moved

    def _patch_wrapper(self) -> None:
        from torch.nn.parallel import DistributedDataParallel

        original = DistributedDataParallel.__init__

        @functools.wraps(original)
        def made(this: Any, module: nn.Module, *args: Any, **kwargs: Any) -> None:
            original(this, module, *args, **kwargs)
            self._wrapped = True
            self._held |= {id(p): (p, _place(p)) for p in module.parameters() if p.requires_grad}

        DistributedDataParallel.__init__ = made  # type: ignore[method-assign, assignment]

    def _patch_sampler(self) -> None:
        from torch.utils.data import DistributedSampler

        original, epochs = DistributedSampler.__iter__, self.epochs

        @functools.wraps(original)
        def drawn(this: Any) -> Iterator[Any]:
            if this.shuffle:
                epochs.setdefault(id(this), []).append(this.epoch)
            return original(this)

        DistributedSampler.__iter__ = drawn  # type: ignore[method-assign]


def _place(parameter: Any) -> str:
    return f"{parameter.dtype} on {parameter.device}"
