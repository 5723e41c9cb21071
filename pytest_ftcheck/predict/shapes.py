"""Operations whose result's shape depends on values: done where those are known, because they follow from the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .device import FakeDevice
from .values import Values

MASKS = (torch.bool, torch.uint8)


def shaped_by_values(device: FakeDevice, values: Values, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of ``func`` (nonzero, unique, x[mask], ...) as fake tensors; None where the values are not known."""
    if func._schema.name == "aten::index":
        return _indexed(device, values, *args)
    if func._schema.name == "aten::masked_select":
        tensor, mask = torch.broadcast_tensors(*args)  # type: ignore[no-untyped-call]
        return _indexed(device, values, tensor, [mask])
    known = values.result_of(func, args, kwargs)
    return tree_map(lambda leaf: _fake(device, values, leaf) if isinstance(leaf, Tensor) else leaf, known)


def _indexed(device: FakeDevice, values: Values, tensor: Tensor, indices: list[Tensor | None]) -> Any:
    positions = _positions(device, values, indices)
    return None if positions is None else device.carry_out(torch.ops.aten.index.Tensor, (tensor, positions), {})


def _positions(device: FakeDevice, values: Values, indices: list[Tensor | None]) -> list[Tensor | None] | None:
    """``indices`` with each mask replaced by the positions at which it holds, as torch's own kernels do."""
    positions: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in MASKS:
            positions.append(index)
            continue
        mask = values.known(index)
        if mask is None:
            return None
        positions += [_fake(device, values, column) for column in mask.nonzero().unbind(1)]
    return positions


def _fake(device: FakeDevice, values: Values, real: Tensor) -> Tensor:
    fake = device.empty(like=real)
    values.remember(fake, real)
    return fake
