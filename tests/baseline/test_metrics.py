"""What is recorded of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from baseline.regressions import PAIR, SOUND, run
from builders import a_run

from pytest_ftcheck.baseline.metric import Curve, Metric, Names, recorded
from pytest_ftcheck.baseline.metrics import metrics_of
from pytest_ftcheck.errors import RecipeError


def named(subject: Any, name: str = "") -> dict[str, Metric]:
    return {m.name: m for m in metrics_of(subject, name)}


def test_each_metric_of_a_run_stands_once_and_is_a_number_or_word_or_curve() -> None:
    found = metrics_of(SOUND)
    assert len({m.name for m in found}) == len(found)
    assert all(m.finite for m in found)


def test_training_losses_are_means_of_growing_windows_in_which_each_step_counts_once() -> None:
    losses = tuple(float(step) for step in range(1, 12))
    curve = named(a_run("lora", train=losses))["lora/loss.train"].value
    assert isinstance(curve, Curve)
    assert curve.steps == (1, 2, 4, 8, 11)
    assert curve.values == (1.0, 2.0, 3.5, 6.5, 10.0)


def test_the_bits_of_a_curve_are_of_every_step() -> None:
    losses = [3.0, 2.0, 2.5, 2.4]
    curves = [named(a_run("lora", train=t))["lora/loss.train"].value for t in (losses, [3.0, 2.0, 2.4, 2.5], losses)]
    assert all(isinstance(curve, Curve) for curve in curves)
    # The mean of the last window is the same.
    assert curves[0].values == curves[1].values  # type: ignore[union-attr]
    assert curves[0].bits != curves[1].bits == curves[1].bits  # type: ignore[union-attr]
    assert curves[0] == curves[2]


def test_names_say_what_trains_and_what_should_have() -> None:
    found = run()
    names = named(found)["lora/parameters.names"].value
    assert isinstance(names, Names)
    assert names.groups["wte.weight float32 10x4 frozen"] == 1
    assert names.groups["base_model.model.h.*.attn.c_attn.lora_A.default.weight float32 2x4 trainable"] == 1


def test_a_parameter_that_trains_and_does_not_move_is_another_kind() -> None:
    from builders import tensors

    from pytest_ftcheck.run import Parameters

    stuck = run(parameters=Parameters(tensors("lora", lora_B={"moved": False}, wte={"moved": True})))
    names = named(stuck)["lora/parameters.names"].value
    assert isinstance(names, Names)
    assert any(group.endswith("lora_B.default.weight float32 12x2 trainable, did not move") for group in names.groups)
    assert "wte.weight float32 10x4 frozen, moved" in names.groups


def test_a_pair_has_both_arms_and_the_losses_of_every_seed() -> None:
    found = named(PAIR)
    assert {"full/memory.peak_bytes", "lora/memory.peak_bytes", "full to lora/loss_gap"} <= set(found)
    assert {"full, seed 1/loss.eval", "lora, seed 2/loss.train"} <= set(found)
    assert "lora, seed 1/memory.peak_bytes" not in found


def test_a_name_tells_two_of_a_kind_apart() -> None:
    assert set(named(SOUND, "at night")) == {f"at night, {name}" for name in named(SOUND)}
    with pytest.raises(RecipeError, match="name='a/b'"):
        metrics_of(SOUND, "a/b")


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"ft_baseline.check\(dict\); allowed: a Run, a Pair or a Prediction"):
        metrics_of({})  # type: ignore[arg-type]


def test_without_tokens_there_is_no_rate() -> None:
    assert "lora/time.tokens_per_s" not in named(run(tokens_per_step=None))


def test_a_run_without_times_has_one_that_is_no_number() -> None:
    assert not named(run(samples_s=()))["lora/time.step_s"].finite


@pytest.mark.parametrize(
    ("value", "expected", "samples"),
    [
        (3, 3, ()),
        (0.5, 0.5, ()),
        ([3.0, 1.0, 2.0], 2.0, (3.0, 1.0, 2.0)),
        ((4,), 4, (4.0,)),
        (torch.tensor(2.5), 2.5, ()),
        ([torch.tensor(3)], 3, (3.0,)),
    ],
)
def test_a_user_s_metric_is_a_number_or_the_median_of_several(
    value: object, expected: float, samples: tuple[float, ...]
) -> None:
    found = recorded("x", value, "MiB", "lower")
    assert (found.value, found.samples, found.unit, found.direction) == (expected, samples, "MiB", "lower")
    assert type(found.value) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "unit", "direction"),
    [
        ("", 1, "", "same"),
        ("a/b", 1, "", "same"),
        (3, 1, "", "same"),
        ("x", "1", "", "same"),
        ("x", True, "", "same"),
        ("x", None, "", "same"),
        ("x", [], "", "same"),
        ("x", torch.ones(2), "", "same"),
        ("x", 1, 3, "same"),
        ("x", 1, "", "smaller"),
    ],
)
def test_a_user_s_metric_that_cannot_be_is_refused(name: Any, value: object, unit: Any, direction: str) -> None:
    with pytest.raises(RecipeError, match=r"record\(.*allowed: "):
        recorded(name, value, unit, direction)


def test_what_is_no_number_is_seen_to_be_none() -> None:
    assert not recorded("x", math.nan, "", "same").finite
    assert not recorded("x", [1.0, math.inf], "", "same").finite
