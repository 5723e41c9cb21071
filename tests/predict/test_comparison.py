"""Full fine-tuning and an adapter, with and without checkpointing, on one GPU."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.errors import PredictionError
from pytest_ftcheck.predict.comparison import Comparison, compare
from pytest_ftcheck.predict.workload import Workload

from .synthetic import Synthetic, a_gpu, unpredictable

FULL, LORA = Full(), LoRA(r=16, target_modules="all-linear")
WORKLOAD = Workload("a model", method=LORA, dtype="bfloat16")


def live(workload: Workload) -> int:
    """More in full than with an adapter, less with checkpointing, 1000 bytes at most for two rows of LoRA."""
    row = 900 if isinstance(workload.method, Full) else 450
    return 100 + (row // 3 if workload.gradient_checkpointing else row) * workload.batch_size


def compared(workload: Workload = WORKLOAD, memory_bytes: int = 1000, **options: bool) -> tuple[Comparison, Synthetic]:
    predictions = Synthetic(a_gpu(memory_bytes), live)
    return compare(workload, predictions, (FULL, LORA), **options), predictions


@pytest.mark.parametrize(
    ("method", "checkpointing", "asked"),
    [(FULL, False, "full"), (FULL, True, "full ckpt"), (LORA, False, "LoRA r=16"), (LORA, True, "LoRA r=16 ckpt")],
)
def test_four_arms_are_compared_and_one_of_them_is_what_was_asked_for(
    method: Full | LoRA, checkpointing: bool, asked: str
) -> None:
    workload = dataclasses.replace(WORKLOAD, method=method, gradient_checkpointing=checkpointing)
    comparison, _ = compared(workload)
    assert [arm.title for arm in comparison.arms] == ["full", "full ckpt", "LoRA r=16", "LoRA r=16 ckpt"]
    assert [arm.title for arm in comparison.arms if arm.asked] == [asked]
    assert comparison.asked.prediction.allocated_bytes == live(workload)


def test_each_arm_has_its_own_largest_batch() -> None:
    comparison, _ = compared()
    assert [arm.largest_batch.fits for arm in comparison.arms if arm.largest_batch] == [1, 3, 2, 6]


def test_a_method_that_is_not_among_those_to_compare_is_an_arm_all_the_same() -> None:
    predictions = Synthetic(a_gpu(1000), live)
    other = dataclasses.replace(WORKLOAD, method=LoRA(r=2, target_modules="all-linear"))
    assert compare(other, predictions, (FULL,)).asked.title == "LoRA r=2"


def test_weights_that_exceed_the_memory_end_it_after_one_prediction() -> None:
    predictions = Synthetic(a_gpu(1000), lambda workload: 2000, weights=1001)
    comparison = compare(WORKLOAD, predictions, (FULL, LORA))
    assert predictions.count == comparison.predictions == 1
    assert [arm.title for arm in comparison.arms] == ["LoRA r=16"]
    assert comparison.asked.largest_batch is not None
    assert comparison.asked.largest_batch.fits == 0
    assert comparison.problems == ("nothing else was predicted: the weights alone exceed the GPU's memory",)


def test_without_searches_there_is_one_prediction_for_each_arm() -> None:
    comparison, predictions = compared(batch_search=False, switch_search=False)
    assert predictions.count == 4
    assert not comparison.switches
    assert not any(arm.largest_batch for arm in comparison.arms)


def test_what_two_parts_ask_for_is_predicted_once() -> None:
    _, predictions = compared(batch_search=False)
    # Four arms, one of which is also a switch; and four other switches.
    assert predictions.count == 8


def test_an_arm_that_cannot_be_predicted_is_named_and_the_others_are_there() -> None:
    def reserved(workload: Workload) -> int:
        return unpredictable(workload) if workload.gradient_checkpointing else live(workload)

    comparison = compare(WORKLOAD, Synthetic(a_gpu(1000), reserved), (FULL, LORA))
    assert [arm.title for arm in comparison.arms] == ["full", "LoRA r=16"]
    assert "full ckpt: no sdpa attention" in comparison.problems
    assert "gradient checkpointing: no sdpa attention" in comparison.problems


def test_a_search_that_fails_leaves_the_arm_without_a_largest_batch() -> None:
    def reserved(workload: Workload) -> int:
        return unpredictable(workload) if workload.batch_size > 1 else 101

    comparison = compare(WORKLOAD, Synthetic(a_gpu(1000), reserved), (FULL, LORA))
    assert len(comparison.arms) == 4
    assert comparison.asked.largest_batch is None
    assert "LoRA r=16, other batches: no sdpa attention" in comparison.problems


def test_what_was_asked_for_must_be_predictable() -> None:
    with pytest.raises(PredictionError, match="no sdpa attention"):
        compare(WORKLOAD, Synthetic(a_gpu(1000), unpredictable), (FULL, LORA))


def test_a_comparison_comes_back_from_json_as_it_was() -> None:
    comparison, _ = compared()
    assert Comparison.from_json(comparison.to_json()) == comparison
