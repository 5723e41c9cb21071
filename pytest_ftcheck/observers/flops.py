"""Floating-point operations of one operation: matrix products, convolutions and attention; a multiply-add counts as 2.

Counted by torch's own formulas, but not by its ``FlopCounterMode``, which keeps what checkpointing recomputes alive and
so falsifies a memory log that is taken at the same time.
"""

from __future__ import annotations

from typing import Any

from torch.utils.flop_counter import flop_registry


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """How many ``func`` did; 0 for whatever is not a matrix product, a convolution or attention."""
    formula = flop_registry.get(func._overloadpacket)
    return int(formula(*args, **kwargs, out_val=result)) if formula is not None else 0
