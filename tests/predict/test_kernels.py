"""Memory within kernels, against the formulas of torch's source written out for one shape."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.kernels import inner_bytes

BACKWARD = "aten::_scaled_dot_product_{}_attention_backward"


def a_tensor(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def heads(number: int, tokens: int, size: int, dtype: torch.dtype = torch.bfloat16, batch: int = 2) -> Tensor:
    """(batch, heads, tokens, size) as models make it: the heads of a token side by side."""
    return a_tensor(batch, tokens, number, size, dtype=dtype).transpose(1, 2)


def backward(kernel: str, gpu: str, query: Tensor, key: Tensor, grad: Tensor | None = None) -> int:
    arguments = (grad if grad is not None else query, query, key, key, query)
    return inner_bytes(BACKWARD.format(kernel), arguments, {}, GPUS[gpu])


def test_flash_attention_sums_the_gradient_of_the_query_in_float32() -> None:
    query = heads(4, 100, 40)

    # 100 tokens in rows of 128, 40 elements in columns of 64; and one number for each row.
    assert backward("flash", "a100", query, query) == 2 * 4 * 128 * (64 + 1) * 4


def test_flash_attention_makes_the_gradients_of_shared_heads_for_each_head() -> None:
    query, shared = heads(4, 128, 64), heads(2, 128, 64)

    more = backward("flash", "a100", query, shared) - backward("flash", "a100", query, query)

    assert more == 2 * (2 * 4 * 128 * 64 * 2)


def test_flash_attention_that_must_be_deterministic_sums_in_parts() -> None:
    query = heads(4, 128, 64)
    before = backward("flash", "a100", query, query)

    with contextlib.ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        torch.use_deterministic_algorithms(True)
        # 108 multiprocessors for 8 heads: 14 parts in place of one.
        assert backward("flash", "a100", query, query) - before == 13 * 2 * 4 * 128 * 64 * 4


def test_a_gradient_in_another_layout_is_copied() -> None:
    query = heads(4, 128, 64)
    other = a_tensor(2, 4, 128, 64)

    for kernel in ("flash", "cudnn", "efficient"):
        copied = backward(kernel, "h100", query, query, other) - backward(kernel, "h100", query, query)
        assert copied == 2 * 4 * 128 * 64 * 2, kernel


def test_cudnn_sums_without_padding() -> None:
    query, shared = heads(4, 100, 40), heads(2, 100, 40)

    assert backward("cudnn", "h100", query, query) == 2 * 4 * 100 * (40 + 1) * 4
    assert backward("cudnn", "h100", query, shared) == 2 * 4 * 100 * ((40 + 1) * 4 + 2 * 40 * 2)


@pytest.mark.parametrize(
    ("gpu", "dtype", "size", "elements"),
    [
        # Rows and columns of 64 for small heads, of 128 where shared memory allows it.
        ("a100", torch.float32, 64, 128 * 64),
        ("a100", torch.float32, 100, 128 * 128),
        ("l40s", torch.float32, 100, 128 * 128),
        ("a100", torch.bfloat16, 100, 128 * 128),
        # Too large for the registers: sums of key's and value's gradients, too, for 64 keys twice.
        ("l40s", torch.bfloat16, 128, 128 * 128 + 2 * 64 * (128 + 128)),
    ],
)
def test_efficient_attention_takes_the_workspace_of_its_kernel(
    gpu: str, dtype: torch.dtype, size: int, elements: int
) -> None:
    query = heads(4, 100, size, dtype)

    assert backward("efficient", gpu, query, query) == 2 * 4 * (elements + 100) * 4


def test_efficient_attention_sums_large_heads_in_memory() -> None:
    name = "aten::_scaled_dot_product_efficient_attention"

    def taken(size: int, dtype: torch.dtype) -> int:
        query = heads(4, 100, size, dtype)
        return inner_bytes(name, (query, query, query, None, True), {}, GPUS["a100"])

    assert taken(160, torch.bfloat16) == 2 * 4 * 100 * 160 * 4
    assert taken(128, torch.bfloat16) == taken(160, torch.float32) == 0


@pytest.mark.parametrize(("tokens", "taken"), [(3072, 0), (4000, (5 * 4000 + 2 * 1000 + 1400) * 8 + 1400 * 32 * 4)])
def test_the_gradient_of_an_embedding_is_sorted_where_there_are_many_tokens(tokens: int, taken: int) -> None:
    arguments = (a_tensor(tokens, 32), a_tensor(tokens, dtype=torch.long), 1000, -1, False)

    assert inner_bytes("aten::embedding_dense_backward", arguments, {}, GPUS["h100"]) == taken


def test_norms_of_many_tensors_are_summed_in_as_many_blocks_as_the_largest_has() -> None:
    tensors = [a_tensor(10), a_tensor(3 * 65536 + 1), a_tensor(5)]

    assert inner_bytes("aten::_foreach_norm", (tensors, 2), {}, GPUS["h100"]) == 3 * 4 * 4
    assert inner_bytes("aten::_foreach_norm", ([], 2), {}, GPUS["h100"]) == 0


@pytest.mark.parametrize("name", ["aten::mm", "aten::_log_softmax", "aten::nll_loss_forward", "mine::operation"])
def test_other_operations_take_nothing(name: str) -> None:
    arguments: tuple[Any, ...] = (a_tensor(4, 4), a_tensor(4, 4))

    assert inner_bytes(name, arguments, {}, GPUS["h100"]) == 0
