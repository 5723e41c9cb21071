"""Softmax of float16 in float32 on the fake GPU as one kernel, which it is on CUDA.

torch asks for CUDA by name there (softmax and log_softmax of aten/src/ATen/native/SoftMax.cpp); for any other device,
and for bfloat16 on CUDA, too, it makes a float32 copy of the input first, and one of the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KERNELS = {"softmax.int": torch.ops.aten._softmax, "log_softmax.int": torch.ops.aten._log_softmax}


def route_softmax() -> torch.library.Library:
    """Send softmax on the fake GPU to CUDA's kernels. What is returned must be kept."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]

    def implement(name: str, kernel: Any) -> None:
        def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
            widens = input.dtype == torch.float16 and dtype == torch.float32
            given = input if widens or dtype is None else input.to(dtype)
            result: Tensor = kernel(given, dim, widens)
            return result

        library.impl(name, softmax, "AutogradPrivateUse1")  # type: ignore[no-untyped-call]

    for name, kernel in KERNELS.items():
        implement(name, kernel)
    return library
