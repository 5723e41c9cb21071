"""Attention on the fake GPU by the kernel that a real one would choose, with the copies that torch makes for it.

Left to itself the fake GPU materialises the scores. The choice is put into torch's dispatcher, where calls from any
library arrive, and where what checkpointing recomputes within a backward pass arrives, too. What a kernel is given is
prepared as in aten/src/ATen/native/transformers/attention.cpp: a mask of booleans becomes one of numbers, once for each
layer, and is kept for the backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .gpu import Gpu
from .kernel_choice import Call, chosen_kernel

# What is added to the score of a pair that is masked. cuDNN cannot take minus infinity.
MASKED, MASKED_CUDNN = float("-inf"), -65504.0
# Flash attention wants heads, memory-efficient attention rows of the mask, in multiples of so many elements.
ALIGNMENT = 8


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
        call = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        return RUN[chosen_kernel(gpu, call)](call)

    library.impl("scaled_dot_product_attention", attention, "AutogradPrivateUse1")  # type: ignore[no-untyped-call]
    return library


def _cudnn(call: Call) -> Any:
    mask = _numeric(call, MASKED_CUDNN)
    operation = torch.ops.aten._scaled_dot_product_cudnn_attention
    return operation(*call.tensors, mask, call.differentiates, call.dropout, call.causal, False, scale=call.scale)[0]


def _flash(call: Call) -> Any:
    size = call.query.shape[-1]
    padded = [F.pad(tensor, (0, -size % ALIGNMENT)) if size % ALIGNMENT else tensor for tensor in call.tensors]
    scale = size**-0.5 if call.scale is None else call.scale
    operation = torch.ops.aten._scaled_dot_product_flash_attention
    output = operation(*padded, call.dropout, call.causal, False, scale=scale)[0]
    return output[..., :size] if size % ALIGNMENT else output


def _efficient(call: Call) -> Any:
    mask = _numeric(call, MASKED)
    if mask is not None:
        mask = _aligned(mask).expand(*call.query.shape[:3], call.key.shape[2])
    operation = torch.ops.aten._scaled_dot_product_efficient_attention
    return operation(*call.tensors, mask, call.differentiates, call.dropout, call.causal, scale=call.scale)[0]


def _math(call: Call) -> Any:
    """Scores in full, in float32 whatever the inputs are; key and value repeated where heads are shared."""
    mask = _numeric(call, MASKED)
    operation = torch.ops.aten._scaled_dot_product_attention_math
    return operation(*call.tensors, mask, call.dropout, call.causal, None, scale=call.scale, enable_gqa=call.grouped)[0]


RUN: dict[str, Callable[[Call], Any]] = {"cudnn": _cudnn, "flash": _flash, "efficient": _efficient, "math": _math}


def _numeric(call: Call, masked: float) -> Tensor | None:
    """The mask as numbers to be added to the scores, in the dtype of the query."""
    if call.mask is None or call.mask.dtype != torch.bool:
        return call.mask
    lowest = torch.scalar_tensor(masked, dtype=call.query.dtype, device=call.mask.device)
    return torch.where(call.mask, 0.0, lowest)


def _aligned(mask: Tensor) -> Tensor:
    """The mask itself, or the same in rows of an aligned length, of which it is a view."""
    if mask.stride(-1) == 1 and all(stride % ALIGNMENT == 0 for stride in mask.stride()[:-1]):
        return mask
    length = mask.shape[-1]
    return F.pad(mask, (0, ALIGNMENT - length % ALIGNMENT))[..., :length]


def let_masks_be_left_out() -> None:
    """Let transformers leave a mask out that masks nothing but the future, as it does in a real run. It does not look
    into a fake tensor to see whether that is so; here it is known, and with a mask another kernel would be chosen.
    """
    with contextlib.suppress(ImportError):
        from transformers.utils import import_utils

        patched: Any = import_utils
        patched.is_fake_tensor = lambda tensor: False
