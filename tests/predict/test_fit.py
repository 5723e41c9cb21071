"""The largest batch that fits: the boundary is found, and nothing is claimed that was not predicted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ftcheck import LoRA
from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.predict import predict_training
from pytest_ftcheck.predict.fit import MOST_PREDICTIONS, LargestBatch, largest_batch
from pytest_ftcheck.predict.predictions import Predictions
from pytest_ftcheck.predict.workload import Workload

from .synthetic import Synthetic, a_gpu
from .workloads import tiny_llama

MEMORY = 100_000
# Live bytes by batch size, and the steps in which memory is reserved.
SHAPES: dict[str, tuple[Callable[[int], int], int]] = {
    "affine": (lambda batch: 5_000 + 1_234 * batch, 1),
    "the optimizer's peak, until the activations are more": (lambda batch: max(90_000, 5_000 + 1_234 * batch), 1),
    "reserved in steps": (lambda batch: 5_000 + 123 * batch, 20_000),
    "tiny rows": (lambda batch: 99_000 + batch, 1),
    "small rows, reserved in steps": (lambda batch: 30_000 + 100 * batch, 10_000),
    "quadratic": (lambda batch: 5_000 + 7 * batch * batch, 1),
    "one row fits": (lambda batch: 60_000 * batch, 1),
}


def searched(shape: Callable[[int], int], batch_size: int = 1, **options: int) -> tuple[LargestBatch, Synthetic]:
    predictions = Synthetic(a_gpu(MEMORY), lambda workload: shape(workload.batch_size))
    return largest_batch(Workload("a model", batch_size=batch_size), predictions, **options), predictions


@pytest.mark.parametrize("batch_size", [1, 7, 5000])
@pytest.mark.parametrize(("shape", "step"), SHAPES.values(), ids=SHAPES)
def test_the_largest_batch_fits_and_one_row_more_does_not(
    shape: Callable[[int], int], step: int, batch_size: int
) -> None:
    predictions = Synthetic(a_gpu(MEMORY), lambda workload: shape(workload.batch_size), step=step)
    largest = largest_batch(Workload("a model", batch_size=batch_size), predictions)
    assert largest.exact
    assert shape(largest.fits) <= MEMORY // step * step < shape(largest.fits + 1)
    # Both were predicted.
    assert {largest.fits, largest.fits + 1} <= {workload.batch_size for workload in predictions.asked}
    assert largest.predictions == predictions.count <= MOST_PREDICTIONS


def test_memory_that_grows_with_the_batch_takes_four_predictions() -> None:
    largest, _ = searched(lambda batch: 5_000 + 1_234 * batch)
    assert largest == LargestBatch(76, 77, predictions=4)


def test_where_one_row_does_not_fit_the_largest_batch_is_none() -> None:
    largest, predictions = searched(lambda batch: 100_001 * batch)
    assert largest == LargestBatch(0, 1, predictions=1)
    assert predictions.count == 1


def test_weights_that_exceed_the_memory_need_one_prediction_of_any_batch() -> None:
    predictions = Synthetic(a_gpu(MEMORY), lambda workload: 300_000, weights=150_000)
    assert largest_batch(Workload("a model", batch_size=64), predictions) == LargestBatch(0, 1, predictions=1)


def test_a_search_that_may_not_go_on_says_what_it_knows() -> None:
    largest, _ = searched(lambda batch: 99_000 + batch, most=2)
    assert not largest.exact
    assert 1 <= largest.fits < 1000


def test_a_batch_that_nothing_exceeds_is_not_called_the_largest() -> None:
    largest, _ = searched(lambda batch: 10_000)
    assert largest.exceeds is None
    assert not largest.exact


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_a_bound_that_allows_no_prediction_is_refused(most: int) -> None:
    with pytest.raises(RecipeError, match=r"most is .*allowed: a whole number of at least 1"):
        searched(lambda batch: batch, most=most)


def test_the_boundary_of_a_real_model_is_where_it_is_said_to_be() -> None:
    gpu = a_gpu(60_000_000, workspace_bytes=0)
    training = dict(model=tiny_llama(), method=LoRA(r=4, target_modules="all-linear"), sequence_length=256)
    largest = largest_batch(Workload(**training), Predictions(gpu))
    assert largest.exact
    assert largest.fits > 1
    assert predict_training(**training, batch_size=largest.fits, gpu=gpu).fits
    assert not predict_training(**training, batch_size=largest.fits + 1, gpu=gpu).fits
