"""Counting floating-point operations, one operation at a time and over a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.execution import execute
from pytest_ftcheck.observers.flops import FORMULAS, flops_of, flops_of_update
from pytest_ftcheck.observers.memory import LiveBytes
from pytest_ftcheck.run import Flops

ROWS, WIDTH, CLASSES, RANK = 4, 6, 3, 2


def counted(step: Callable[[], object]) -> int:
    with LiveBytes("cpu") as log:
        step()
    return log.flops[0, "data"]


def tensors(*shapes: tuple[int, ...], **options: Any) -> Iterator[Tensor]:
    return (torch.randn(shape, **options) for shape in shapes)


def test_a_matrix_product_is_two_operations_for_each_multiply_add() -> None:
    left, right = tensors((5, 7), (7, 3))
    assert counted(lambda: left @ right) == 2 * 5 * 7 * 3


@pytest.mark.parametrize("operation", [torch.exp, torch.softmax, torch.sum, torch.layer_norm])
def test_what_is_no_product_counts_as_nothing(operation: Callable[..., Tensor]) -> None:
    more: dict[Any, tuple[Any, ...]] = {torch.softmax: (-1,), torch.layer_norm: ((7,),)}
    (values,) = tensors((5, 7))
    assert counted(lambda: operation(values, *more.get(operation, ()))) == 0


@pytest.mark.parametrize("key_heads", [6, 2])
def test_the_cpus_attention_counts_two_products_forward_and_five_backward(key_heads: int) -> None:
    query, key, value = tensors((2, 6, 8, 4), (2, key_heads, 8, 4), (2, key_heads, 8, 4), requires_grad=True)
    product = 2 * 2 * 6 * 8 * 8 * 4
    seen: list[Tensor] = []

    def forward() -> None:
        grouped = {"enable_gqa": True} if key_heads < 6 else {}
        seen.append(F.scaled_dot_product_attention(query, key, value, is_causal=True, **grouped))

    assert counted(forward) == 2 * product
    assert counted(lambda: seen[0].sum().backward()) == 5 * product


@pytest.mark.parametrize("name", ["flash_attention", "efficient_attention", "cudnn_attention"])
def test_a_gpus_attention_counts_as_torch_counts_it(name: str) -> None:
    query, key, value = tensors((2, 6, 8, 4), (2, 6, 8, 4), (2, 6, 8, 4), device="meta")
    forward = getattr(torch.ops.aten, f"_scaled_dot_product_{name}")
    backward = getattr(torch.ops.aten, f"_scaled_dot_product_{name}_backward")
    assert FORMULAS[f"aten::_scaled_dot_product_{name}"](query, key, value) == flop_registry[forward](
        query, key, value, out_val=(query,)
    )
    assert FORMULAS[f"aten::_scaled_dot_product_{name}_backward"](query, query, key, value) == flop_registry[backward](
        query, query, key, value, out_val=(query,)
    )


@pytest.mark.parametrize(
    "operation",
    [
        lambda: F.linear(*tensors((2, 5, 7), (3, 7), (3,))),
        lambda: torch.matmul(*tensors((2, 5, 7), (7, 3))),
        lambda: torch.matmul(*tensors((2, 1, 5, 7), (4, 7, 3))),
        lambda: F.scaled_dot_product_attention(*tensors((2, 3, 8, 4), (2, 3, 8, 4), (2, 3, 8, 4))),
    ],
    ids=["linear", "matmul", "broadcast matmul", "attention"],
)
def test_inference_mode_counts_what_training_does(operation: Callable[[], Tensor]) -> None:
    """A teacher's forward pass, say: in that mode these operations are not taken apart."""
    ordinary = counted(operation)
    with torch.inference_mode():
        assert counted(operation) == ordinary > 0


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [((8, 16), (2, 16, 24), 2 * 8 * 16 * 24), ((3, 8, 16), (3, 16, 24), 3 * 2 * 8 * 16 * 24)],
)
def test_the_experts_of_a_layer_count_each_row_once(
    left: tuple[int, ...], right: tuple[int, ...], expected: int
) -> None:
    a, b = tensors(left, right, device="meta")
    assert flops_of(torch.ops.aten._grouped_mm.default, (a, b), {}, None) == expected


def test_the_operations_of_an_update_are_divided_by_phase() -> None:
    counts = {(0, "forward"): 1, (1, "data"): 10, (1, "forward"): 200, (1, "backward"): 3000, (1, "optimizer"): 40000}
    assert flops_of_update(counts, 1) == Flops(forward=210, backward=3000, optimizer=40000)
    assert flops_of_update(counts, 1).total == 43210
    assert flops_of_update(counts, 2) == Flops(0, 0, 0)


def recipe(**parts: Any) -> Recipe:
    """A linear layer on random rows, as a model that returns its loss."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": F.cross_entropy(self.last(torch.tanh(self.first(x))), y)}

    rows = [{"x": torch.randn(WIDTH), "y": torch.tensor(i % CLASSES)} for i in range(16)]
    lora = LoRA(r=RANK, target_modules=["first"])
    return Recipe(**{"model": Model, "train_data": rows, "lora": lora, "batch_size": ROWS, "steps": 3, **parts})


FIRST, LAST = 2 * ROWS * WIDTH * WIDTH, 2 * ROWS * WIDTH * CLASSES


def test_a_run_has_the_operations_of_one_update() -> None:
    # The rows need no gradient, so there is no dX of the first layer.
    assert execute(recipe(), "full", 0, 3, "cpu").flops == Flops(FIRST + LAST, FIRST + 2 * LAST)
    down, up = 2 * ROWS * WIDTH * RANK, 2 * ROWS * RANK * WIDTH
    # Of the first layer nothing but the adapter is differentiated, of the last only dX.
    assert execute(recipe(), "lora", 0, 3, "cpu").flops == Flops(FIRST + LAST + down + up, LAST + down + 2 * up)


def test_every_micro_batch_of_an_update_counts() -> None:
    assert execute(recipe(accumulation=3), "full", 0, 3, "cpu").flops == Flops(
        3 * (FIRST + LAST), 3 * (FIRST + 2 * LAST)
    )


def a_loop(job: Job, optimizer: torch.optim.Optimizer, before: Callable[[], object] = lambda: None) -> None:
    for _ in range(job.steps):
        batch = job.collate([job.train_data[i] for i in range(job.batch_size)])
        before()
        job.loss(job.model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_what_the_optimizer_multiplies_counts() -> None:
    def with_muon(job: Job) -> None:
        matrices = [p for p in job.model.parameters() if p.dim() == 2]
        a_loop(job, torch.optim.Muon(matrices, lr=1e-3))

    def with_sgd(job: Job) -> None:
        a_loop(job, torch.optim.SGD(job.model.parameters(), lr=1e-3))

    muon, sgd = (execute(recipe(train=loop, full=Full()), "full", 0, 3, "cpu").flops for loop in (with_muon, with_sgd))
    assert sgd.optimizer == 0 < muon.optimizer
    assert (sgd.forward, sgd.backward) == (muon.forward, muon.backward)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_teachers_forward_pass_counts_as_forward(mode: Callable[[], Any]) -> None:
    teacher = torch.nn.Linear(WIDTH, 100)

    def teach() -> None:
        with mode():
            teacher(torch.randn(ROWS, WIDTH))

    def loop(job: Job) -> None:
        a_loop(job, torch.optim.SGD(job.model.parameters(), lr=1e-3), teach)

    flops = execute(recipe(train=loop), "full", 0, 3, "cpu").flops
    assert flops == Flops(FIRST + LAST + 2 * ROWS * WIDTH * 100, FIRST + 2 * LAST)
