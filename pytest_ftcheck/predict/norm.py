"""RMS norm on the fake GPU as one kernel, which it is on CUDA.

Left to itself the fake GPU takes it apart, and keeps the parts for the backward pass. CUDA's kernel keeps its input and
one number for each row (_fused_rms_norm of aten/src/ATen/native/layer_norm.cpp and cuda/layer_norm_kernel.cu).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class FusedRmsNorm(torch.autograd.Function):
    """What the kernel allocates and keeps; there are no contents to compute."""

    @staticmethod
    def forward(context: Any, input: Tensor, weight: Tensor | None, rows: int) -> Tensor:
        inverse = torch.empty(rows, dtype=torch.float32, device=input.device)
        context.save_for_backward(input, weight, inverse)
        return torch.empty_like(input)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        input, weight, _ = context.saved_tensors
        wanted = context.needs_input_grad
        grads = (
            torch.empty_like(tensor) if want else None for tensor, want in zip((input, weight), wanted, strict=False)
        )
        return (*grads, None)


def route_norm() -> torch.library.Library:
    """Send ``rms_norm`` on the fake GPU to the kernel that CUDA has for it. What is returned must be kept."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]

    def rms_norm(
        input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
    ) -> Any:
        if weight is not None and weight.dtype != input.dtype:
            # There is no kernel for two dtypes; _fused_rms_norm is taken apart here, as it is there.
            return torch.ops.aten._fused_rms_norm(input, normalized_shape, weight, eps)[0]
        rows = input.numel() // max(math.prod(normalized_shape), 1)
        return FusedRmsNorm.apply(input, weight, rows)  # type: ignore[no-untyped-call]

    library.impl("rms_norm", rms_norm, "AutogradPrivateUse1")  # type: ignore[no-untyped-call]
    return library
