from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_ftcheck.predict.gpu import Gpu
from pytest_ftcheck.predict.roofline import LAUNCH_S, moved_bytes, seconds

aten = torch.ops.aten
# A byte takes a nanosecond; an operation in float32 one, in bfloat16 a quarter of it.
GPU = Gpu(
    name="slow",
    memory_bytes=2**30,
    capability=(8, 0),
    flops_per_s={"float32": 1e9, "bfloat16": 4e9},
    bandwidth_bytes_per_s=1e9,
    workspace_bytes=0,
    context_bytes=0,
)


def nanoseconds(func: Any, *args: Any, **kwargs: Any) -> float:
    """The least time of an operation, less that of its launch."""
    return (seconds(func, args, kwargs, func(*args, **kwargs), GPU) - LAUNCH_S) * 1e9


def moved(func: Any, *args: Any, **kwargs: Any) -> int:
    return moved_bytes(func, args, kwargs, func(*args, **kwargs))


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def test_a_large_product_is_limited_by_arithmetic() -> None:
    # 2 x 64 x 32 x 16 operations; 4 (64 x 32 + 32 x 16 + 64 x 16) = 14,336 bytes.
    assert nanoseconds(aten.mm.default, floats(64, 32), floats(32, 16)) == pytest.approx(65_536)


def test_a_product_with_a_vector_is_limited_by_memory() -> None:
    # 2 x 64 x 32 = 4,096 operations; 4 (64 x 32 + 32 + 64) bytes.
    assert nanoseconds(aten.mm.default, floats(64, 32), floats(32, 1)) == pytest.approx(8_576)


def test_the_dtype_of_a_product_decides_its_peak() -> None:
    half = [floats(*shape, dtype=torch.bfloat16) for shape in ((64, 32), (32, 64))]
    assert nanoseconds(aten.mm.default, *half) == pytest.approx(2 * 64 * 32 * 64 / 4)


def test_a_dtype_without_a_rate_has_the_highest_so_that_the_bound_holds() -> None:
    double = [floats(64, 64, dtype=torch.float64) for _ in range(2)]
    # 524,288 operations at 4 a nanosecond; 98,304 bytes.
    assert nanoseconds(aten.mm.default, *double) == pytest.approx(131_072)


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.view.default, ([16],)),
        (aten.t.default, ()),
        (aten.detach.default, ()),
        (aten.slice.Tensor, (0, 0, 2)),
        (aten._unsafe_view.default, ([16],)),
        (aten.empty_like.default, ()),
    ],
)
def test_what_starts_no_kernel_costs_nothing(func: Any, args: tuple[Any, ...]) -> None:
    tensor = floats(4, 4)
    assert seconds(func, (tensor, *args), {}, func(tensor, *args), GPU) == 0.0


def test_every_kernel_has_its_launch() -> None:
    tensor = floats(0)
    assert seconds(aten.clone.default, (tensor,), {}, aten.clone.default(tensor), GPU) == LAUNCH_S


def test_operands_are_read_and_results_written() -> None:
    assert moved(aten.add.Tensor, floats(100), floats(100)) == 3 * 400
    assert moved(aten.clone.default, floats(100)) == 2 * 400
    assert moved(aten._to_copy.default, floats(100), dtype=torch.bfloat16) == 400 + 200


def test_an_operand_that_is_there_twice_is_read_once() -> None:
    tensor = floats(100)
    assert moved(aten.mul.Tensor, tensor, tensor) == 2 * 400


def test_an_expanded_operand_has_only_the_bytes_of_its_storage() -> None:
    assert moved(aten.add.Tensor, floats(100, 100), floats(100).expand(100, 100)) == 2 * 40_000 + 400


def test_what_is_changed_in_place_is_read_and_written() -> None:
    assert moved(aten.add_.Tensor, floats(100), floats(100)) == 3 * 400


def test_what_is_overwritten_is_not_read() -> None:
    assert moved(aten.copy_.default, floats(100), floats(100)) == 2 * 400
    assert moved(aten.zero_.default, floats(100)) == 400
    assert moved(aten.zeros_like.default, floats(100)) == 400


def test_of_an_embedding_only_the_rows_that_are_picked_are_read() -> None:
    ids = torch.zeros(8, dtype=torch.long)
    # 8 rows of 16 floats read and written, and 8 indices.
    assert moved(aten.embedding.default, floats(1000, 16), ids) == 2 * 512 + 64


def test_the_loss_of_labels_does_not_read_every_score() -> None:
    scores, labels = floats(8, 1000), torch.zeros(8, dtype=torch.long)
    assert moved(aten.nll_loss_forward.default, scores, labels, None, 1, -100) < 100


def test_operations_on_lists_count_every_tensor() -> None:
    ones, others = [floats(100), floats(50)], [floats(100), floats(50)]
    assert moved(aten._foreach_add_.List, ones, others) == 3 * 600
    assert moved(aten._foreach_mul.Scalar, ones, 2.0) == 2 * 600
    assert moved(aten._foreach_zero_.default, ones) == 600


def test_a_fused_optimizer_reads_gradients_and_does_not_write_them() -> None:
    weights, gradients, first, second = ([floats(100)] for _ in range(4))
    keywords = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "eps": 1e-8}
    args = (weights, gradients, first, second, [], [floats(1)[0]])
    # Four tensors read and three written; the step is read, and is counted up by an operation of its own.
    flags = {"amsgrad": False, "maximize": False}
    assert moved(aten._fused_adamw_.default, *args, **keywords, **flags) == 7 * 400 + 4
