"""Sums of gradients, which autograd makes in place where it can, and under a dispatch mode never does.

A tensor that is used several times gets several gradients. The engine adds each to the first in place where nobody else
holds that one or its memory (torch/csrc/autograd/input_buffer.cpp); to a tensor under a dispatch mode it does not, and
so a dry run would have one more tensor at every such moment than a real training.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .device import FakeDevice

SUM, SUM_IN_PLACE = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor
Holders = tuple[int, int, int]


class Accumulation:
    """Tells which sums a real engine would make in place."""

    def __init__(self, device: FakeDevice) -> None:
        # How many hold a gradient that nobody holds but the engine: torch's own layers do, too, while it is added to.
        self._alone = _counted(device)

    def is_in_place(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Whether ``func`` on ``args`` is the engine's, and real tensors would be added in place."""
        return func is SUM and _by_the_engine(args) and _is_whole(args[0]) and holders(args) == self._alone


def holders(args: tuple[Any, ...]) -> Holders:
    """How many hold the first operand in C++, in Python, and its memory."""
    storage = args[0].untyped_storage()
    memory = torch._C._storage_Use_Count(storage._cdata)
    tensor_holders: int = args[0]._use_count()
    return tensor_holders, sys.getrefcount(args[0]), memory


def _by_the_engine(args: tuple[Any, ...]) -> bool:
    """Whether autograd is at work, and for no second derivative, and adds two tensors of one kind."""
    if torch._C._current_autograd_node() is None or torch.is_grad_enabled():
        return False
    first, second = args[:2]
    return isinstance(second, Tensor) and first.shape == second.shape and first.dtype == second.dtype


def _is_whole(tensor: Tensor) -> bool:
    """Whether every element of its memory is one of the tensor's, once."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries operations out, and counts who holds the first operand of a sum."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.found: Holders = (0, 0, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is SUM:
            self.found = holders(args)
        return self.device.carry_out(func, args, kwargs or {})


def _counted(device: FakeDevice) -> Holders:
    """Who holds the first gradient of a tensor that is used twice, when the second one comes."""
    with torch.enable_grad(), _Count(device) as count:
        used_twice = device.empty(like=torch.empty(2)).requires_grad_() * 1
        torch.cat([used_twice.sin(), used_twice.cos()]).sum().backward()  # type: ignore[no-untyped-call]
    found: Holders = count.found
    return found
