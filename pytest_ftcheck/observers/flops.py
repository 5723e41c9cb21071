"""Floating-point operations of one operation: matrix products, convolutions and attention; a multiply-add counts as 2.

Counted by torch's own formulas, but not by its ``FlopCounterMode``, which keeps what checkpointing recomputes alive and
so falsifies a memory log that is taken at the same time. A kernel that torch has no formula for counts as 0: give it
one with ``torch.utils.flop_counter.register_flop_formula``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from ..run import Flops


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """How many ``func`` did; 0 for whatever is not a matrix product, a convolution or attention."""
    ours = FORMULAS.get(func._schema.name)
    if ours is not None:
        return ours(*args, **kwargs, out_val=result)
    formula = flop_registry.get(func._overloadpacket)
    if formula is None:
        return 0
    # torch's formulas do not know the forms of an operation that are told the result's dtype.
    operands = (arg for arg in args if not isinstance(arg, torch.dtype))
    return int(formula(*operands, **kwargs, out_val=result))


def flops_of_update(counted: Mapping[tuple[int, str], int], update: int) -> Flops:
    """The operations of one update, from counts by (update, phase)."""
    # What the loop does before it calls the model belongs to the step, too: the forward pass of a teacher, say.
    forward = counted.get((update, "data"), 0) + counted.get((update, "forward"), 0)
    return Flops(forward, counted.get((update, "backward"), 0), counted.get((update, "optimizer"), 0))


def _product(left: Tensor, right: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    """Of ``matmul`` and ``linear``: for each element of the result a sum over the last dimension of ``left``."""
    return 2 * out_val.numel() * left.shape[-1]


def _grouped_product(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    """Of a layer's experts: every row is in one group, so 2 m k n in all; where both are stacked, for each group."""
    groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * groups * left.shape[-2] * left.shape[-1] * right.shape[-1]


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Q Kᵀ and P V for every query head; masked positions count, as in torch's formula."""
    return 2 * _scores(query, key) * (query.shape[-1] + value.shape[-1])


def _attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """Q Kᵀ once more, then the gradients of P, V, Q and K (Dao et al. 2022, arXiv 2205.14135, algorithm 4)."""
    return 2 * _scores(query, key) * (3 * query.shape[-1] + 2 * value.shape[-1])


def _scores(query: Tensor, key: Tensor) -> int:
    """How many there are: shapes are (batch, heads, positions, head size), and key heads may be fewer."""
    return query.shape[:-1].numel() * key.shape[-2]


# The CPU's has no formula in torch; of the others', older releases refuse fewer key heads than query heads.
FUSED_ATTENTION = (
    *("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention"),
    "fused_attention_overrideable",
)
FORMULAS: dict[str, Callable[..., int]] = {
    **{f"aten::_scaled_dot_product_{kernel}": _attention for kernel in FUSED_ATTENTION},
    **{f"aten::_scaled_dot_product_{kernel}_backward": _attention_backward for kernel in FUSED_ATTENTION},
    "aten::_grouped_mm": _grouped_product,
    # Inference mode does not take these apart.
    "aten::linear": _product,
    "aten::matmul": _product,
    "aten::scaled_dot_product_attention": _attention,
}
