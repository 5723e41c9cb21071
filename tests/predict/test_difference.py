"""Two predictions side by side: every known regression changes something, and is named."""

from __future__ import annotations

import dataclasses

import pytest
from predict.variants import predicted

from pytest_ftcheck.predict import Prediction
from pytest_ftcheck.predict.causes import causes
from pytest_ftcheck.predict.cost import Cost
from pytest_ftcheck.predict.difference import changes, differences
from pytest_ftcheck.run import Flops

# Before, after, method, GPU; and words of the cause.
NAMED = {
    "checkpointing switched off": ("checkpointing", "sound", "lora", "h100", "gradient checkpointing is off"),
    "checkpointing switched on": ("sound", "checkpointing", "lora", "h100", "gradient checkpointing is on"),
    "rank doubled": ("sound", "rank doubled", "lora", "h100", "rank of the adapters is 2 times"),
    "rank halved": ("rank doubled", "sound", "lora", "h100", "rank of the adapters is 0.5 times"),
    "adapters in float32": ("bfloat16", "adapters in float32", "lora", "h100", "autocast_adapter_dtype"),
    "use_cache": ("sound", "cache", "lora", "h100", "use_cache is on"),
    "output kept": ("sound", "output kept", "lora", "h100", "what `lm_head` returned is still held"),
    "gradients zeroed": ("sound", "gradients zeroed", "full", "h100", "zero_grad(set_to_none=False)"),
    "norm thawed": ("sound", "norm thawed", "lora", "h100", "`transformer.h.*.ln_1`: more trains"),
    "norm frozen": ("norm thawed", "sound", "lora", "h100", "`transformer.h.*.ln_1`: less trains"),
    "foreach": ("fused", "sound", "full", "h100", "with fused=True it needs none"),
    "mask": ("bfloat16", "padded", "lora", "h100", "`model.layers.*.self_attn` keeps a mask"),
    "kernel": ("bfloat16", "padded", "lora", "a100", "another kernel (memory-efficient; before flash)"),
    "dropout": ("sound", "dropout", "lora", "h100", "dropout is on: `transformer.h.*.attn.resid_dropout`"),
}


def pair(name: str) -> tuple[Prediction, Prediction]:
    before, after, method, gpu, _ = NAMED[name]
    return predicted(before, method, gpu), predicted(after, method, gpu)


@pytest.mark.parametrize("name", NAMED)
def test_a_known_regression_is_seen_and_named(name: str) -> None:
    lines = differences(*pair(name))
    assert len(lines) >= 2
    assert [line for line in lines if line.startswith("likely cause: ") and NAMED[name][-1] in line]


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"kernel"}))
def test_a_regression_is_not_taken_for_another(name: str) -> None:
    before, after = pair(name)
    assert len(causes(Cost.of(before), Cost.of(after))) == 1


def test_one_norm_of_768_parameters_is_seen_in_operations_and_bytes() -> None:
    before, after = pair("norm thawed")
    lines = differences(before, after)
    # What is in front of the norm gets a gradient now: the product with the first layer's 768 x 2304 weights.
    rows = 4 * 64
    assert after.flops.backward - before.flops.backward >= 2 * rows * 768 * 2304
    assert any(line.startswith("FLOPs backward +") for line in lines)
    assert "gradients +3.07 kB in optimizer: `transformer.h.*.ln_1` (1 x aten::native_layer_norm_backward" in str(lines)
    assert after.memory.gradients_bytes - before.memory.gradients_bytes == 768 * 4


def test_the_peak_comes_first_and_what_is_held_with_the_largest_change_first() -> None:
    before, after = pair("adapters in float32")
    lines = differences(before, after)
    assert lines[0].startswith(f"peak +{(after.peak_bytes - before.peak_bytes) / 1e3:.0f} kB (+")
    assert lines[0].endswith(f"{before.peak_bytes:,} -> {after.peak_bytes:,} B, in backward")
    sizes = [abs(change.bytes) for change in changes(Cost.of(before), Cost.of(after))]
    assert sizes == sorted(sizes, reverse=True)
    copy = "`model.layers.*.self_attn.q_proj` keeps a float32 copy of its input (1 x aten::_to_copy, float32; before 0)"
    assert f"activations +262 kB in backward: {copy}" in lines


def test_the_same_prediction_twice_differs_in_nothing() -> None:
    once = predicted("sound")
    assert differences(once, once) == ()
    assert differences(once, dataclasses.replace(once, took_s=9.0, versions={"torch": "1"})) == ()


def test_another_release_is_told_where_a_number_differs() -> None:
    once = predicted("sound")
    other = dataclasses.replace(once, flops=Flops(1, 2), versions={**once.versions, "torch": "9.9"})
    lines = differences(once, other)
    assert lines[0].startswith("FLOPs forward -")
    assert f"torch: {once.versions['torch']} -> 9.9" in lines
    assert "likely cause: another release of torch" in lines


def test_a_change_that_no_pattern_knows_is_told_without_a_cause() -> None:
    once = predicted("sound")
    lines = differences(once, dataclasses.replace(once, reserved_bytes=once.reserved_bytes + 2**21))
    assert lines == ("allocator: reserved +2.1 MB",)


def test_a_cost_and_its_prediction_are_the_same() -> None:
    before, after = pair("rank doubled")
    assert differences(Cost.of(before), after) == differences(before, Cost.of(after)) == differences(before, after)
