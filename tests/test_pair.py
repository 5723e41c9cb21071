"""The two arms of a comparison."""

from __future__ import annotations

import dataclasses
import math

import pytest
from builders import a_memory, a_pair, a_run

from pytest_ftcheck import Pair
from pytest_ftcheck.errors import ComparisonError, RecipeError
from pytest_ftcheck.run import Flops


@pytest.mark.parametrize(
    ("fulls", "loras"),
    [((), ()), ((0,), ()), ((), (0,)), ((0,), (1,)), ((0, 1), (0,)), ((0, 1), (1, 0)), ((0, 1), (0, 2))],
)
def test_arms_of_different_seeds_are_no_pair(fulls: tuple[int, ...], loras: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        Pair(tuple(a_run("full", seed=seed) for seed in fulls), tuple(a_run("lora", seed=seed) for seed in loras))
    expected = f"a pair needs runs of the same seeds in both arms; got {list(fulls)} and {list(loras)}"
    assert str(caught.value) == expected


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (5, 3, 8)])
def test_arms_of_the_same_seeds_are_a_pair(seeds: tuple[int, ...]) -> None:
    pair = Pair(*(tuple(a_run(method, seed=seed) for seed in seeds) for method in ("full", "lora")))
    assert (pair.full.method, pair.full.seed) == ("full", seeds[0])
    assert (pair.lora.method, pair.lora.seed) == ("lora", seeds[0])
    assert pair.paired


def test_a_memory_ratio_is_full_over_lora() -> None:
    pair = Pair(
        (a_run("full", memory=a_memory("full", peak_bytes=3000, activations_bytes=10**6)),),
        (a_run("lora", memory=a_memory("lora", peak_bytes=1000)),),
    )
    assert pair.memory_ratio("static") == (400 + 400 + 800) / (528 + 128 + 256)
    assert pair.memory_ratio("peak") == 3.0


@pytest.mark.parametrize("kind", ["static", "peak"])
def test_a_memory_ratio_says_what_it_is_of(kind: str) -> None:
    pair = a_pair()
    ratio = pair.memory_ratio(kind)  # type: ignore[arg-type]
    assert ratio.what == f"{kind} memory of full over LoRA"
    assert ratio.subject is pair


@pytest.mark.parametrize("kind", ["", "Static", "total", None])
def test_another_kind_of_memory_ratio_is_refused(kind: object) -> None:
    with pytest.raises(RecipeError) as caught:
        a_pair().memory_ratio(kind)  # type: ignore[arg-type]
    assert str(caught.value) == f"memory_ratio({kind!r}); allowed: 'static', 'peak'"


def test_the_time_ratio_is_of_the_medians_over_seeds() -> None:
    def arm(method: str, *step_s: float) -> tuple:  # type: ignore[type-arg]
        return tuple(a_run(method, seed=seed, samples_s=(time,) * 6) for seed, time in enumerate(step_s))

    pair = Pair(arm("full", 3.0, 2.0, 100.0), arm("lora", 1.5, 0.1, 1.6))
    assert pair.time_ratio == 2.0
    assert pair.time_ratio.what == "step time of full over LoRA"


def test_the_time_ratio_of_runs_that_were_not_timed_is_no_number() -> None:
    assert math.isnan(a_pair(samples_s=()).time_ratio)


def test_the_flops_ratio_is_full_over_lora() -> None:
    pair = Pair(
        (a_run("full", flops=Flops(forward=100, backward=200, optimizer=60)),),
        (a_run("lora", flops=Flops(forward=110, backward=130)),),
    )
    assert pair.flops_ratio == 360 / 240
    assert pair.flops_ratio.what == "floating-point operations of full over LoRA"
    assert pair.flops_ratio.subject is pair


def test_the_flops_ratio_of_runs_in_which_none_were_counted_is_no_number() -> None:
    assert math.isnan(a_pair(flops=Flops(0, 0)).flops_ratio)


def test_the_order_is_taken_at_the_horizon_unless_a_step_is_given() -> None:
    pair = a_pair({30: (-0.25,) * 3, 250: (0.25,) * 3})
    assert pair.loss_order().at == 250
    assert pair.loss_order().winner == "full"
    assert pair.loss_order(margin=0.25).winner == "undecided"
    assert pair.loss_order(at=30).at == 30
    with pytest.raises(ValueError, match="no evaluation at step 0"):
        pair.loss_order(at=0)


def test_one_seed_with_other_batches_makes_the_pair_unpaired() -> None:
    pair = a_pair()
    last = pair.loras[-1]
    other = dataclasses.replace(last, loss=dataclasses.replace(last.loss, batches="other batches"))
    assert pair.paired
    assert not Pair(pair.fulls, (*pair.loras[:-1], other)).paired


def test_a_pair_comes_back_equal_from_json() -> None:
    pair = a_pair({30: (-0.1, 0.2), 250: (0.3, 1 / 3)})
    assert Pair.from_json(pair.to_json()) == pair


def test_a_stored_pair_with_a_run_missing_is_refused() -> None:
    text = a_pair({30: (-0.1,)}).to_json()
    start = text.index('"loras":[') + len('"loras":[')
    with pytest.raises(RecipeError, match="the same seeds in both arms"):
        Pair.from_json(text[:start] + "]}")


def test_a_pair_prints_short() -> None:
    assert repr(a_pair()) == "<Pair a recipe: full and LoRA r=2, 3 seeds, 10 steps>"


def test_that_losses_are_equal_is_claimed_by_an_equivalence_test_at_the_step() -> None:
    close, apart, wide = (0.0, 0.0005, -0.0005), (0.05, 0.0505, 0.0495), (0.0, 0.03, -0.03)
    pair = a_pair({30: apart, 100: close})
    assert pair.losses_equal().verdict == "passed"
    assert pair.losses_equal(at=30).verdict == "failed"
    assert pair.losses_equal(at=30, margin=0.1).verdict == "passed"
    assert a_pair({100: wide}).losses_equal().verdict == "unstable"
    assert a_pair({100: (float("nan"), *close)}).losses_equal().verdict == "failed"


def test_losses_that_are_not_paired_are_not_called_equal() -> None:
    pair = a_pair({100: (0.0, 0.0005, -0.0005)})
    other = dataclasses.replace(pair.loras[0].loss, batches="others")
    unpaired = Pair(pair.fulls, (dataclasses.replace(pair.loras[0], loss=other), *pair.loras[1:]))
    with pytest.raises(ComparisonError, match="the arms saw different batches"):
        unpaired.losses_equal()
    with pytest.raises(ComparisonError, match="at least 2 paired seeds"):
        a_pair({100: (0.0,)}).losses_equal()
