"""Memory that CUDA kernels take for themselves while they run, which no tensor of the training shows.

Every formula is read from torch's source, or, for cuDNN, from NVIDIA/cudnn-frontend; **none has been validated on a
GPU**. Left out: what a convolution asks of cuDNN, which depends on the algorithm that it picks, and whatever stays
below some MiB (reductions, layer norm's partial sums, split keys in flash attention's forward pass).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .gpu import Gpu

FLOAT32 = 4
# Rows of a gradient that one thread adds up (aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu), and the number of
# tokens up to which it is done without sorting them (Embedding.cu).
ROWS_PER_THREAD, UNSORTED_TOKENS = 10, 3072
# Elements that one block reduces (kChunkSize of aten/src/ATen/native/cuda/MultiTensorApply.cuh).
CHUNK = 65536


def inner_bytes(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], gpu: Gpu) -> int:
    """Bytes that the kernel of the operation ``name`` allocates and frees within itself on ``gpu``."""
    formula = FORMULAS.get(name)
    return formula(gpu, *args, **kwargs) if formula is not None else 0


def _flash_backward(
    gpu: Gpu, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, *_: Any, **__: Any
) -> int:
    """mha_bwd of aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp: the gradient of the query is summed
    in float32, those of key and value are made for every head of the query.
    """
    batch, heads, tokens, size = query.shape
    rows = _up(tokens, 128)
    columns = _up(size, 32) if _up(size, 32) < 224 else 256
    query_sums = batch * heads * rows * columns * FLOAT32
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        query_sums *= math.ceil(gpu.multiprocessors / (batch * heads))
    expanded = 0
    if key.shape[1] != heads:
        expanded = 2 * batch * heads * key.shape[2] * size * query.element_size()
    copies = sum(_bytes(tensor) for tensor in (grad, out) if not tensor.transpose(1, 2).is_contiguous())
    return query_sums + batch * heads * rows * FLOAT32 + expanded + copies


def _cudnn_backward(
    gpu: Gpu, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, *_: Any, **__: Any
) -> int:
    """The workspace that cudnn-frontend asks for (node/scaled_dot_product_flash_attention.h), which torch takes from
    its allocator (aten/src/ATen/native/cudnn/MHA.cpp). What cuDNN's own plan adds to it is not published; the gradients
    of key and value for every head of the query, where heads are shared, are counted as the part of it that is known.
    """
    batch, heads, tokens, size = query.shape
    query_sums = batch * heads * tokens * (size + 1) * FLOAT32
    expanded = 0
    if key.shape[1] != heads:
        expanded = batch * heads * key.shape[2] * (size + value.shape[-1]) * query.element_size()
    copy = _bytes(grad) if grad.stride() != out.stride() else 0
    return query_sums + expanded + copy


def _efficient_backward(gpu: Gpu, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """workspace_size() of mem_eff_attention/kernel_backward.h, which torch ships among its headers."""
    batch, heads, tokens, size = query.shape
    largest = max(size, value.shape[-1])
    half = query.element_size() == 2
    block = _query_block(gpu, half, largest)
    elements = _up(tokens, block) * _up(size, block)
    if half and largest > block:
        # The gradients of key and value do not fit into registers; blocks of 64 keys, each for some of the queries.
        splits = max(min(math.ceil(key.shape[2] / 64), 200 // (batch * heads)), 1)
        elements += splits * 64 * (_up(size, block) + _up(value.shape[-1], block))
    copy = _bytes(grad) if not grad.transpose(1, 2).is_contiguous() else 0
    return batch * heads * (elements + tokens) * FLOAT32 + copy


def _query_block(gpu: Gpu, half: bool, size: int) -> int:
    """How many queries a block of the memory-efficient backward kernel has: the first kernel of kernels/cutlassB.h for
    heads of this size that fits into shared memory, which only the A100 and the Hoppers have enough of for more.
    """
    roomy = gpu.capability in ((8, 0), (9, 0), (10, 0), (10, 3))
    if size <= 64 or not (roomy or (half and gpu.capability >= (8, 0) and size <= 96)):
        return 64
    return 128


def _efficient_forward(gpu: Gpu, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Above 128 elements a head's output is summed in float32 in memory (mem_eff_attention/kernel_forward.h)."""
    sums = query.dtype != torch.float32 and value.shape[-1] > 128
    return math.prod(query.shape[:3]) * value.shape[-1] * FLOAT32 if sums else 0


def _embedding_backward(gpu: Gpu, grad: Tensor, indices: Tensor, rows: int, *_: Any, **__: Any) -> int:
    """Indices are sorted, and their gradients added in parts, in float32 (EmbeddingBackwardKernel.cu)."""
    tokens, width = indices.numel(), grad.shape[-1]
    if tokens <= UNSORTED_TOKENS:
        return 0
    segments = min(tokens, rows)
    parts = tokens // ROWS_PER_THREAD + segments
    # Sorted indices, where they were, and cub's second copy of both; offsets and counts of segments and parts.
    integers = 5 * tokens + 2 * segments + parts
    return integers * indices.element_size() + parts * width * max(grad.element_size(), FLOAT32)


def _norms(gpu: Gpu, tensors: Sequence[Tensor], *_: Any, **__: Any) -> int:
    """One partial sum for every block of every tensor, in as many columns as the largest needs (ForeachReduceOp.cu)."""
    blocks = max((math.ceil(tensor.numel() / CHUNK) for tensor in tensors), default=0)
    return len(tensors) * blocks * FLOAT32


def _safe_softmax(gpu: Gpu, scores: Tensor, *_: Any, **__: Any) -> int:
    """Which scores are minus infinity (_safe_softmax of aten/src/ATen/native/transformers/attention.cpp)."""
    return scores.numel()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


FORMULAS: dict[str, Callable[..., int]] = {
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient_forward,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::_foreach_norm": _norms,
    "aten::_safe_softmax": _safe_softmax,
}
