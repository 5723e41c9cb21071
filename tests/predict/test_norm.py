from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from .observed import observed


def kept(device: str) -> dict[str, Any]:
    """What RMS norm keeps for the backward pass, by its inputs; and the gradients that come of it."""
    found: dict[str, Any] = {}
    for name, dtype in {"bf16": torch.bfloat16, "mixed": torch.float32}.items():
        x = torch.zeros(2, 16, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.zeros(64, device=device, dtype=dtype, requires_grad=True)
        saved: list[int] = []

        def save(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            output = F.rms_norm(x, (64,), weight, 1e-6)
        output.sum().backward()
        shapes = [list(t.grad.shape) if t.grad is not None else None for t in (x, weight)]
        found[name] = {"bytes": sum(saved), "gradients": shapes, "dtype": str(output.dtype)}
    return found


def test_rms_norm_keeps_its_input_and_one_number_for_each_row() -> None:
    found = observed(kept)

    assert found["bf16"]["bytes"] == 2 * 16 * 64 * 2 + 64 * 2 + 2 * 16 * 4
    assert found["bf16"]["gradients"] == [[2, 16, 64], [64]]
    assert found["bf16"]["dtype"] == "torch.bfloat16"


def test_rms_norm_of_two_dtypes_is_taken_apart() -> None:
    """As on CUDA, which has no kernel for it: the parts are kept in float32."""
    found = observed(kept)

    assert found["mixed"]["bytes"] > 2 * found["bf16"]["bytes"]
    assert found["mixed"]["gradients"] == [[2, 16, 64], [64]]
