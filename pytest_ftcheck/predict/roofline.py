"""How long an operation takes at least: its arithmetic at the GPU's peak, or its memory traffic at full bandwidth.

This is a lower bound (the roofline of Williams, Waterman & Patterson 2009, doi:10.1145/1498765.1498785). Real kernels
reach a part of either rate, operations that are launched too slowly leave the GPU idle, and what a kernel reads twice
counts once. It is for telling what limits a step, and for comparing steps; not for saying how long one takes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ..observers.flops import flops_of
from ..observers.memory import tensors_in
from .gpu import Gpu

# From the launch of a kernel that does nothing to its end: the order of magnitude on all GPUs of the last ten years.
LAUNCH_S = 2e-6


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten::{name}" for name in names.split())


# Only memory is set aside, or a tensor is looked at in another shape, without being a view to the dispatcher.
NO_KERNEL = _aten("empty empty_like empty_strided new_empty new_empty_strided _unsafe_view resize_ set_")
# Of their operands they look at the shape; or what they look at is small beside their result.
READS_NOTHING = _aten(
    "zeros_like ones_like full_like rand_like randn_like new_zeros new_ones new_full nll_loss_backward"
)
# Of each operand they read at most as much as they give.
PICKS = _aten("embedding index index_select gather nll_loss_forward")
# What they change they do not read.
OVERWRITES = _aten("copy_ fill_ zero_ normal_ uniform_ random_ bernoulli_ _foreach_copy_ _foreach_zero_")


def seconds(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, gpu: Gpu) -> float:
    """The least time, in seconds, of an operation that gave ``result``; 0 for a view."""
    if func.is_view or func._schema.name in NO_KERNEL:
        return 0.0
    flops = flops_of(func, args, kwargs, result)
    arithmetic_s = flops / _flops_per_s(args, gpu) if flops else 0.0
    return max(arithmetic_s, moved_bytes(func, args, kwargs, result) / gpu.bandwidth_bytes_per_s) + LAUNCH_S


def moved_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """What an operation reads of its operands and writes to its results and to the operands that it changes."""
    name = func._schema.name
    operands = _distinct((*args, *kwargs.values()))
    changed = _distinct(_changed(func, args, kwargs))
    given = [tensor for key, tensor in _distinct((result,)).items() if key not in operands]
    written = sum(map(_bytes, given)) + sum(map(_bytes, changed.values()))
    if name in READS_NOTHING:
        return written
    read = [_bytes(tensor) for key, tensor in operands.items() if not (name in OVERWRITES and key in changed)]
    return written + sum(min(size, written) if name in PICKS else size for size in read)


def _flops_per_s(args: tuple[Any, ...], gpu: Gpu) -> float:
    """The GPU's peak for the dtype of the first operand; the highest it has where none is known for that."""
    dtype = str(tensors_in(args)[0].dtype).removeprefix("torch.")
    return gpu.flops_per_s.get(dtype, max(gpu.flops_per_s.values()))


def _distinct(values: Iterable[Any]) -> dict[int, Tensor]:
    return {id(tensor): tensor for tensor in tensors_in(values)}


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [args[index] if index < len(args) else kwargs.get(name) for index, name in _changed_arguments(func)]


@functools.cache
def _changed_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    # A fused optimizer changes gradients only where it has to undo a loss scale.
    return tuple(
        (index, argument.name)
        for index, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name != "grads"
    )


def _bytes(tensor: Tensor) -> int:
    """What a tensor has, of which an expanded one has each element many times."""
    return min(tensor.numel() * tensor.dtype.itemsize, tensor.untyped_storage().nbytes())
