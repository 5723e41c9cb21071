from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ftcheck.predict import Prediction, predict_recipe
from pytest_ftcheck.predict.workload import Workload

from .observed import observed
from .workloads import FULL, Q_AND_V, tiny_llama

NODES = {
    "ScaledDotProductCudnnAttentionBackward0": "cudnn",
    "ScaledDotProductFlashAttentionBackward0": "flash",
    "ScaledDotProductEfficientAttentionBackward0": "efficient",
}


def attention(device: str, dtype: torch.dtype, mask: tuple[int, ...] | None, size: int, shared: int) -> dict[str, Any]:
    """One call with four heads and 20 tokens: by which kernel, and what it keeps of the mask; then backward."""

    def heads(number: int) -> Tensor:
        return torch.zeros(2, number, 20, size, dtype=dtype, device=device, requires_grad=True)

    query, key, value = heads(4), heads(shared), heads(shared)
    given = torch.ones(mask, dtype=torch.bool, device=device) if mask else None
    output = F.scaled_dot_product_attention(query, key, value, given, is_causal=mask is None, enable_gqa=shared != 4)
    node = output.grad_fn
    if node is not None and node.name().startswith("Slice"):
        node = node.next_functions[0][0]
    kept, keys = getattr(node, "_saved_attn_bias", None), getattr(node, "_saved_key", None)
    output.sum().backward()
    return {
        "kernel": NODES.get(node.name() if node is not None else "", "math"),
        "shape": list(output.shape),
        "gradients": [list(t.grad.shape) if t.grad is not None else None for t in (query, key, value)],
        "mask": [str(kept.dtype), kept.untyped_storage().nbytes()] if isinstance(kept, Tensor) else None,
        "keys": list(keys.shape) if isinstance(keys, Tensor) else None,
    }


BF16, FP32 = torch.bfloat16, torch.float32
ALL, NONE = (2, 1, 20, 20), None
CASES: dict[str, tuple[torch.dtype, tuple[int, ...] | None, int, int]] = {
    "bf16": (BF16, NONE, 8, 4),
    "bf16, masked": (BF16, ALL, 8, 4),
    "bf16, one mask for all": (BF16, (20, 20), 8, 4),
    "bf16, size 12": (BF16, NONE, 12, 4),
    "bf16, shared heads": (BF16, NONE, 8, 2),
    "bf16, shared heads, masked": (BF16, ALL, 8, 2),
    "fp32": (FP32, NONE, 8, 4),
    "fp32, masked": (FP32, ALL, 8, 4),
    "fp32, shared heads": (FP32, NONE, 8, 2),
}


@functools.cache
def calls(gpu: str) -> dict[str, dict[str, Any]]:
    def do(device: str) -> dict[str, Any]:
        return {name: attention(device, *case) for name, case in CASES.items()}

    found: dict[str, dict[str, Any]] = observed(do, gpu)
    return found


@pytest.mark.parametrize(
    ("gpu", "kernels"),
    [
        ("h100", "cudnn cudnn cudnn flash cudnn cudnn efficient efficient math"),
        ("a100", "flash efficient efficient flash flash math efficient efficient math"),
        ("t4", "math math math math math math efficient efficient math"),
    ],
)
def test_calls_go_forward_and_backward_through_the_kernel_that_the_gpu_chooses(gpu: str, kernels: str) -> None:
    assert [call["kernel"] for call in calls(gpu).values()] == kernels.split()
    for name, call in calls(gpu).items():
        _, _, size, shared = CASES[name]
        assert call["shape"] == [2, 4, 20, size], name
        assert call["gradients"] == [[2, 4, 20, size], *[[2, shared, 20, size]] * 2], name


def test_a_mask_of_booleans_is_kept_as_numbers_of_the_querys_dtype() -> None:
    # 20 tokens are no multiple of 8: efficient attention's rows are 24 long, cuDNN's are not padded.
    assert calls("h100")["bf16, masked"]["mask"] == ["torch.bfloat16", 2 * 20 * 20 * 2]
    assert calls("a100")["bf16, masked"]["mask"] == ["torch.bfloat16", 2 * 20 * 24 * 2]
    assert calls("a100")["fp32, masked"]["mask"] == ["torch.float32", 2 * 20 * 24 * 4]


def test_a_mask_is_spread_over_heads_and_batch_without_a_copy() -> None:
    assert calls("a100")["bf16, one mask for all"]["mask"] == ["torch.bfloat16", 20 * 24 * 2]


def test_flash_attention_keeps_heads_padded_to_a_multiple_of_eight() -> None:
    assert calls("a100")["bf16, size 12"]["keys"] == [2, 4, 20, 16]
    assert calls("a100")["bf16"]["keys"] == [2, 4, 20, 8]


@functools.cache
def tiny(method: str = "full", **settings: Any) -> Prediction:
    """Two layers of four heads, which share two of key and value: two rows of 64 tokens, on an A100."""
    chosen = {"full": FULL, "lora": Q_AND_V}[method]
    workload = Workload(model=tiny_llama(2), method=chosen, **{"batch_size": 2, "sequence_length": 64, **settings})
    return predict_recipe(workload.recipe(), workload.method_name, gpu="a100")


def held(prediction: Prediction, op: str) -> tuple[int, int]:
    """How many storages that an operation made are there at the highest point of the forward pass, and their bytes."""
    found = [one for one in prediction.moment("forward").held if one.op == op]
    return sum(one.count for one in found), sum(one.bytes for one in found)


FLASH, EFFICIENT = "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_efficient_attention"


def test_eager_attention_keeps_the_scores_that_sdpa_does_not() -> None:
    eager, sdpa = tiny(dtype="bfloat16", attention="eager"), tiny(dtype="bfloat16")

    # Of each layer at least the softmax of 2 rows x 4 heads x 64 x 64, in half precision, for the backward pass.
    assert eager.memory.activations_bytes - sdpa.memory.activations_bytes >= 2 * (2 * 4 * 64 * 64 * 2)
    assert held(eager, FLASH) == (0, 0)


def test_shared_heads_in_float32_materialise_the_scores() -> None:
    """No fused kernel takes them: torch falls back to plain attention, as it does not in half precision."""
    assert held(tiny(), "aten::_safe_softmax") == (2, 2 * (2 * 4 * 64 * 64 * 4))
    assert held(tiny(dtype="bfloat16"), "aten::_safe_softmax") == (0, 0)


def test_a_padded_batch_takes_another_kernel_and_keeps_a_mask_for_each_layer() -> None:
    padded = tiny(dtype="bfloat16", padded=True)

    assert held(padded, EFFICIENT)[0] > 0 == held(padded, FLASH)[0]
    assert held(padded, "aten::where") == (2, 2 * (2 * 64 * 64 * 2))


def test_a_batch_without_padding_has_no_mask_at_all() -> None:
    """Transformers leaves it out where it may look into it, and on a GPU it may."""
    full = tiny(dtype="bfloat16")

    assert held(full, FLASH)[0] > 0
    assert held(full, "aten::where") == (0, 0)
    assert "bool" not in {one.dtype for one in full.moment("forward").held}


def test_what_checkpointing_recomputes_goes_through_the_same_kernel() -> None:
    """Another one would save other tensors, which torch refuses."""
    without = tiny("lora", dtype="bfloat16", padded=True)
    with_it = tiny("lora", dtype="bfloat16", padded=True, gradient_checkpointing=True)

    assert with_it.memory.activations_bytes < without.memory.activations_bytes
    assert with_it.flops.backward > without.flops.backward
