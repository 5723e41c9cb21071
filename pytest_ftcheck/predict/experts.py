"""The matrix products of a layer of experts in full precision, which torch's own fake implementation refuses.

On a GPU ``_grouped_mm`` falls back to one product a group for every dtype but bfloat16 (aten/src/ATen/native/cuda/
GroupedBlas.cpp); whose rows are in which group is a matter of values, and no shape depends on it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_impls import op_implementations_dict

# Rows of the result begin at multiples of so many bytes, as the tensor memory accelerator wants them.
ALIGNMENT_BYTES = 16


def let_experts_run() -> None:
    """Give ``_grouped_mm`` a fake implementation for every dtype; for good."""
    op_implementations_dict[torch.ops.aten._grouped_mm.default] = _grouped_product


def _grouped_product(mode: Any, func: Any, left: Tensor, right: Tensor, offs: Any = None, *args: Any, **_: Any) -> Any:
    if left.dtype == torch.bfloat16:
        return NotImplemented
    shape = result_shape(left, right, groups=offs.shape[0] if offs is not None else 1)
    elements = ALIGNMENT_BYTES // left.element_size() if left.device.type != "cpu" else 1
    row = -(-shape[-1] // elements) * elements
    strides = [math.prod(shape[1:-1]) * row, row, 1][-len(shape) :]
    with mode:
        return torch.empty_strided(shape, strides, dtype=left.dtype, device=left.device)


def result_shape(left: Tensor, right: Tensor, groups: int) -> list[int]:
    """Rows in groups by a matrix a group (or the other way round); or a product a group, where the groups divide what
    is summed over.
    """
    if left.dim() == right.dim():
        return [groups if left.dim() == 2 else left.shape[0], left.shape[-2], right.shape[-1]]
    return [left.shape[-2], right.shape[-1]]
