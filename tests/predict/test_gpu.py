from __future__ import annotations

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.predict.gpu import GIB, GPUS, MIB, Gpu, gpu_called

NAMES = ("h200", "h100", "a100", "l40s", "t4", "rtx4090")


def test_the_profiles_are_those_that_are_promised() -> None:
    assert tuple(GPUS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_survives_storage_and_has_a_rate_for_every_dtype_of_a_training(name: str) -> None:
    gpu = gpu_called(name)

    assert Gpu.from_json(gpu.to_json()) == gpu
    assert {"float32", "bfloat16", "float16"} <= set(gpu.flops_per_s)


@pytest.mark.parametrize(
    ("name", "gib"), [("h200", 141), ("h100", 80), ("a100", 80), ("l40s", 48), ("t4", 16), ("rtx4090", 24)]
)
def test_memory_is_less_than_the_cards_name_says(name: str, gib: int) -> None:
    assert 0.9 * gib * GIB < GPUS[name].memory_bytes < gib * GIB


def test_cublas_takes_more_on_hopper() -> None:
    assert {name for name, gpu in GPUS.items() if gpu.workspace_bytes == 32 * MIB} == {"h200", "h100"}
    assert {GPUS[name].workspace_bytes for name in ("a100", "l40s", "t4", "rtx4090")} == {8_519_680}


def test_rates_are_dense_and_float32_is_without_tf32() -> None:
    """A rate with sparsity would be twice as large; one with TF32, half of that of bfloat16."""
    assert GPUS["h100"].flops_per_s["bfloat16"] < 1000e12
    for gpu in GPUS.values():
        assert gpu.flops_per_s["float32"] < 0.51 * gpu.flops_per_s["float16"]


def test_only_the_t4_has_no_bfloat16_of_its_own() -> None:
    assert [name for name, gpu in GPUS.items() if gpu.emulates_bfloat16] == ["t4"]
    assert GPUS["t4"].flops_per_s["bfloat16"] <= GPUS["t4"].flops_per_s["float32"]


def test_a_name_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"gpu is 'h300'; allowed: h200, h100, .*rtx4090, or a Gpu\(\.\.\.\)"):
        gpu_called("h300")


def test_a_profile_of_ones_own_is_taken_as_it_is() -> None:
    own = Gpu("mine", GIB, (8, 6), {"float32": 1e12}, 1e11, MIB, MIB)

    assert gpu_called(own) is own
