from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from .observed import observed

ELEMENTS = 1024 * 1024


def taken(device: str) -> dict[str, Any]:
    """Bytes above what was there before, by function and dtype: in the forward pass, and in the backward pass."""
    found: dict[str, Any] = {}
    for function in (F.softmax, F.log_softmax):
        for dtype in (torch.float16, torch.bfloat16):
            scores = torch.zeros(1024, 1024, device=device, dtype=dtype, requires_grad=True)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            output = function(scores, dim=-1, dtype=torch.float32)
            forward = torch.cuda.max_memory_allocated() - before
            gradient = torch.zeros_like(output)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            output.backward(gradient)  # type: ignore[no-untyped-call]
            backward = torch.cuda.max_memory_allocated() - before
            assert output.dtype == torch.float32
            assert scores.grad is not None
            assert scores.grad.dtype == dtype
            found[f"{function.__name__} {dtype}"] = [forward, backward]
            del scores, output, gradient
    return found


def test_softmax_of_float16_in_float32_makes_no_copy_of_its_input() -> None:
    found = observed(taken)

    for name in ("softmax", "log_softmax"):
        # The result in float32, and the gradient in float16.
        assert found[f"{name} torch.float16"] == [4 * ELEMENTS, 2 * ELEMENTS]
        # As on CUDA, where bfloat16 has no such kernel: a copy of the input, and a gradient of that.
        assert found[f"{name} torch.bfloat16"] == [2 * 4 * ELEMENTS, (4 + 2) * ELEMENTS]


def under_autocast(device: str) -> int:
    scores = torch.zeros(1024, 1024, device=device, dtype=torch.float16)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", torch.float16):
        output = scores.softmax(-1)
    assert output.dtype == torch.float32
    return torch.cuda.max_memory_allocated() - before


def test_autocast_takes_the_same_kernel() -> None:
    assert observed(under_autocast) == 4 * ELEMENTS
