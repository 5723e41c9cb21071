"""Predictions as text."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from predict.synthetic import a_gpu, a_prediction

from pytest_ftcheck.predict.comparison import Arm, Comparison, Settings
from pytest_ftcheck.predict.fit import LargestBatch
from pytest_ftcheck.predict.prediction import Held, Prediction
from pytest_ftcheck.predict.switches import Switch
from pytest_ftcheck.report.prediction import WIDTH, comparison_lines, held_lines, prediction_lines
from pytest_ftcheck.run import Flops

GB = 10**9
H80 = a_gpu(80 * GB, name="h80", context_bytes=GB // 2)
SETTINGS = Settings(2048, "adamw-foreach", "sdpa", None, autocast_adapter_dtype=True, padded=False)
HELD = (
    Held("weights", "model.layers.*.mlp.up_proj", "outside", "bfloat16", 32, 16 * GB),
    Held("activations", "model.layers.*.self_attn.q_proj", "aten::_to_copy", "float32", 32, 4 * GB),
    Held("temporaries", "", "aten::mm", "float32", 1, 1000),
)


def predicted(live_bytes: int, **changes: Any) -> Prediction:
    settings: dict[str, Any] = {"gpu": H80, "weights": 16 * GB, "held": HELD, **changes}
    return a_prediction(live_bytes, **settings)


def a_comparison(**changes: Any) -> Comparison:
    """Full, which does not fit, and LoRA, which does and was asked for."""
    full = predicted(100 * GB, method="full", declaration="Full(lr=0.001)")
    lora = predicted(30 * GB)
    comparison = Comparison(
        settings=SETTINGS,
        arms=(Arm("full", False, full, LargestBatch(0, 1, 1)), Arm("LoRA r=16", True, lora, LargestBatch(4, 5, 3))),
        switches=(
            Switch("gradient checkpointing", "keeps less", 10 * GB, predicted(20 * GB, flops=Flops(1000, 3000))),
            Switch("adamw-fused", "in place", 0, lora),
            Switch("eager attention", "keeps the scores", -60 * GB, predicted(90 * GB)),
        ),
        problems=(),
        predictions=9,
        took_s=12.3,
    )
    return dataclasses.replace(comparison, **changes)


def text(comparison: Comparison | None = None) -> str:
    return "\n".join(comparison_lines(comparison or a_comparison()))


def row(name: str, lines: str) -> list[str]:
    """The cells of the row called ``name``."""
    line = next(line for line in lines.splitlines() if line.strip().startswith(name))
    return line.strip().removeprefix(name).split()


def test_the_header_says_what_was_asked_for_and_whether_it_fits() -> None:
    lines = comparison_lines(a_comparison())
    assert lines[:5] == [
        "a model on h80 (80 GB): an update of 1 x 2048 tokens",
        "  bfloat16, adamw-foreach, sdpa attention",
        "  Full(lr=0.001)",
        "  LoRA(r=16, alpha=16, all-linear, lr=0.01)",
        "LoRA r=16 fits, with 49.5 GB left",
    ]


def test_settings_that_are_not_usual_are_in_the_header() -> None:
    settings = dataclasses.replace(SETTINGS, autocast="bfloat16", autocast_adapter_dtype=False, padded=True)
    assert "autocast to bfloat16, adapters in the model's dtype, padded" in text(a_comparison(settings=settings))


def test_the_arm_that_was_asked_for_has_a_star() -> None:
    head = next(line for line in text().splitlines() if "*" in line)
    assert head.split() == ["full", "LoRA", "r=16", "*"]


def test_the_table_says_what_fits_and_what_is_left() -> None:
    assert row("fits", text()) == ["NO", "yes"]
    assert row("room left", text()) == ["-20.5", "GB", "49.5", "GB"]
    assert row("largest batch", text()) == ["0", "4"]
    assert row("with CUDA's context", text()) == ["100", "GB", "30.5", "GB"]
    assert row("takes at least", text()) == ["500", "ms", "500", "ms"]


@pytest.mark.parametrize(
    ("largest", "cell"),
    [(LargestBatch(7, 9, 16), "7 to 8"), (LargestBatch(7, None, 16), "7 or more"), (None, "-")],
)
def test_a_largest_batch_that_is_not_known_is_not_claimed(largest: LargestBatch | None, cell: str) -> None:
    known, asked = a_comparison().arms
    arms = (known, dataclasses.replace(asked, largest_batch=largest))
    assert " ".join(row("largest batch", text(a_comparison(arms=arms)))) == f"0 {cell}"


def test_without_a_search_there_is_no_row_for_it() -> None:
    arms = tuple(dataclasses.replace(arm, largest_batch=None) for arm in a_comparison().arms)
    assert "largest batch" not in text(a_comparison(arms=arms))


def test_what_does_not_fit_says_by_how_much_or_that_its_weights_alone_do_not() -> None:
    for prediction, said in (
        (predicted(100 * GB), "LoRA r=16 does not fit: it needs 20.5 GB more"),
        (predicted(200 * GB, weights=140 * GB), "LoRA r=16 does not fit: its weights alone are 140 GB"),
    ):
        assert said in comparison_lines(a_comparison(arms=(Arm("LoRA r=16", True, prediction, None),)))


def test_switches_say_what_they_save_and_what_they_cost() -> None:
    assert row("gradient checkpointing", text()) == ["20", "GB", "-10", "GB", "yes", "+33.3", "%", "same"]
    assert row("adamw-fused", text()) == ["30", "GB", "none", "yes", "same", "same"]
    assert row("eager attention", text()) == ["90", "GB", "+60", "GB", "NO", "same", "same"]
    assert "      keeps less" in text().splitlines()


def test_a_time_that_is_not_known_is_a_dash() -> None:
    lines = prediction_lines(predicted(30 * GB, step_s=0.0, tokens=0))
    assert row("takes at least", "\n".join(lines)) == ["-"]
    assert not any(str(math.nan) in line for line in lines)


def test_what_is_held_at_the_peak_names_operation_and_module() -> None:
    assert held_lines(predicted(30 * GB), "LoRA r=16") == [
        "held at the peak of LoRA r=16 (backward, 30 GB):",
        "  weights      16 GB  32 x  bfloat16 in model.layers.*.mlp.up_proj",
        "  activations   4 GB  32 x  float32 _to_copy in model.layers.*.self_attn.q_proj",
        "  and 10 GB of 1 other kind",
    ]


def test_a_peak_between_updates_has_nothing_to_list() -> None:
    assert held_lines(predicted(30 * GB, peak_phase="data"), "full") == []


def test_of_a_long_name_the_end_is_shown() -> None:
    module = f"model.{'very_long_name.' * 10}q_proj.lora_A"
    held = (Held("activations", module, "aten::mm", "float32", 1, GB),)
    line = held_lines(predicted(2 * GB, weights=GB, held=held), "full")[1]
    assert len(line) == WIDTH
    assert line.endswith("name.q_proj.lora_A")


def test_no_line_is_wider_than_a_log() -> None:
    problems = (f"full ckpt: {'a long story ' * 20}",)
    notes = predicted(
        30 * GB, notes=("a float that was read is taken to be 1 " * 4,), declaration=f"LoRA({'x, ' * 60})"
    )
    arms = (*a_comparison().arms, Arm("LoRA r=128 ckpt", False, notes, None), Arm("full ckpt", False, notes, None))
    lines = comparison_lines(a_comparison(arms=arms, problems=problems))
    assert max(map(len, lines)) <= WIDTH
    assert any(line.startswith("note: full ckpt") for line in lines)


def test_the_footer_says_what_was_not_validated_and_not_modelled() -> None:
    assert text().splitlines()[-3:] == [
        "9 predictions in 12.3 s",
        "torch 2.13.0",
        "not yet validated on a GPU; not modelled: FSDP, ZeRO, torch.compile, quantised weights",
    ]


def test_one_prediction_alone_is_a_table_of_one_column() -> None:
    lines = prediction_lines(predicted(30 * GB, notes=("a note",)))
    assert lines[0] == "a model on h80 (80 GB): LoRA(r=16, alpha=16, all-linear, lr=0.01)"
    assert row("allocated at the peak", "\n".join(lines)) == ["30", "GB"]
    assert lines[-1] == "note: a note"
