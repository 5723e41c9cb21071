from __future__ import annotations

import dataclasses
import math

import pytest
from predict.workloads import Q_AND_V, predicted, tiny_llama

from pytest_ftcheck.predict import Prediction


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    return predicted(tiny_llama, Q_AND_V, batch_size=2, sequence_length=64)


def test_json_gives_an_equal_prediction(prediction: Prediction) -> None:
    assert Prediction.from_json(prediction.to_json()) == prediction


def test_how_long_it_took_is_no_part_of_what_it_says(prediction: Prediction) -> None:
    assert dataclasses.replace(prediction, took_s=1e9) == prediction
    assert dataclasses.replace(prediction, peak_bytes=prediction.peak_bytes + 512) != prediction


def test_a_second_process_says_the_same(prediction: Prediction) -> None:
    from pytest_ftcheck.predict import predict_training

    again = predict_training(model=tiny_llama(), method=Q_AND_V, batch_size=2, sequence_length=64)
    assert again.to_json().partition('"took_s"')[0] == prediction.to_json().partition('"took_s"')[0]


def test_the_peak_is_the_highest_of_the_moments(prediction: Prediction) -> None:
    assert prediction.peak_bytes == max(moment.bytes for moment in prediction.moments)
    assert prediction.peak_bytes == prediction.moment(prediction.peak_phase).bytes
    assert prediction.memory.at_peak == prediction.moment(prediction.peak_phase).breakdown


def test_figures_of_the_allocator_are_in_order(prediction: Prediction) -> None:
    assert prediction.peak_bytes <= prediction.active_bytes <= prediction.allocated_bytes <= prediction.reserved_bytes
    assert prediction.device_bytes == prediction.reserved_bytes + prediction.gpu.context_bytes


def test_weights_gradients_and_states_name_the_parameters_module(prediction: Prediction) -> None:
    held = prediction.moment("optimizer").held
    for category in ("gradients", "optimizer"):
        modules = {one.module for one in held if one.category == category}
        owners = {f"model.layers.*.self_attn.{name}_proj.lora_{side}" for name in "qv" for side in "AB"}
        assert modules == owners
    assert {"lm_head", "model.embed_tokens"} < {one.module for one in held if one.category == "weights"}


def test_activations_of_a_token_are_what_the_forward_pass_leaves(prediction: Prediction) -> None:
    saved = prediction.moment("saved").breakdown.activations
    assert prediction.activations_per_token == saved / 128
    assert math.isnan(dataclasses.replace(prediction, tokens=0).activations_per_token)


def test_a_phase_that_is_not_there_is_an_error(prediction: Prediction) -> None:
    with pytest.raises(KeyError, match="evaluation"):
        prediction.moment("evaluation")


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_it_fits_where_the_gpu_has_room_for_everything(prediction: Prediction, spare: int, fits: bool) -> None:
    gpu = dataclasses.replace(prediction.gpu, memory_bytes=prediction.device_bytes + spare)
    assert dataclasses.replace(prediction, gpu=gpu).fits is fits
