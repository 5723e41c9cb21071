"""Which attention kernel a GPU would choose, and that kernel's own fake implementation.

Left to itself the fake GPU materialises the scores. The choice is put into torch's dispatcher, where calls from any
library arrive, and where what checkpointing recomputes within a backward pass arrives, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .gpu import Gpu

KERNELS = ("flash", "efficient", "math")


def route_attention(gpu: Gpu) -> torch.library.Library:
    """Send ``scaled_dot_product_attention`` on the fake GPU to the kernel that ``gpu`` would choose. What is returned
    must be kept: with it the routing ends.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        kernel = chosen_kernel(gpu, query, key, attn_mask, enable_gqa)
        ops = torch.ops.aten
        if kernel == "flash":
            flash = ops._scaled_dot_product_flash_attention
            return flash(query, key, value, dropout_p, is_causal, return_debug_mask=False, scale=scale)[0]
        if kernel == "efficient":
            efficient = ops._scaled_dot_product_efficient_attention
            return efficient(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
        plain = ops._scaled_dot_product_attention_math
        return plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]

    library.impl("scaled_dot_product_attention", attention, "AutogradPrivateUse1")  # type: ignore[no-untyped-call]
    return library


def chosen_kernel(gpu: Gpu, query: Tensor, key: Tensor, mask: Tensor | None, grouped: bool) -> str:
    """One of ``KERNELS``, by torch's rules (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    if half and mask is None and gpu.capability >= (8, 0) and query.shape[-1] <= 256:
        return "flash"
    if not grouped:
        return "efficient"
    return "math"
