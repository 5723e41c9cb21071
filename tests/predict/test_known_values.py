"""Figures that were known before this package could predict anything, to the byte and to the operation.

GPT-2 of 124 million parameters, AdamW, float32. The figures come from closed forms, and from a prototype that was
written apart from this package. Its loop held the model's output during the backward pass and let go of it before the
update; ours holds it throughout (``keep_output``), or not at all, and each claim says which of the two compares.
transformers took the prototype's tensors for those of a compiler, and made an attention mask that no training has.
"""

from __future__ import annotations

import pytest
from predict.workloads import C_ATTN, FULL, gpt2_124m, predicted

from pytest_ftcheck.methods import Method
from pytest_ftcheck.predict import Prediction

PARAMETERS, ADAPTER = 124_439_808, 294_912
# One boolean for each pair of positions of a row.
MASK_BYTES_A_ROW = 128 * 128
TOKENS, VOCABULARY, WIDTH, LAYERS, LENGTH, RANK = 512, 50_257, 768, 12, 128, 8


def of_four_rows(method: Method, **settings: object) -> Prediction:
    """Batch 4 x 128, AdamW with foreach."""
    return predicted(gpt2_124m, method, batch_size=4, sequence_length=LENGTH, **settings)


def of_one_row(method: Method, **settings: object) -> Prediction:
    """Batch 1 x 128, fused AdamW; the output is kept."""
    settings = {"optimizer": "adamw-fused", "keep_output": True, **settings}
    return predicted(gpt2_124m, method, batch_size=1, sequence_length=LENGTH, **settings)


def gpt2_without_dropout() -> object:
    return gpt2_124m(dropout=0.0)


def test_full_fine_tuning_peaks_in_the_optimizer() -> None:
    # 16 B for each parameter, 4 B more for what foreach computes at once, and the batch. The peak is in the update,
    # when the prototype had let go of its output.
    full = of_four_rows(FULL)
    assert full.peak_bytes == 2_488_800_256
    assert full.peak_phase == "optimizer"
    assert full.peak_bytes == 20 * PARAMETERS + 8 * TOKENS


def test_lora_peaks_in_the_backward_pass() -> None:
    # A loop that lets go of the output peaks 102,926,336 B lower: 4 x 128 x 50257 float32 logits.
    lora = of_four_rows(C_ATTN, keep_output=True)
    assert lora.peak_bytes == 1_357_223_936 - 4 * MASK_BYTES_A_ROW
    assert lora.peak_phase == "backward"


def test_checkpointing_saves_lora_what_it_saved_the_prototype() -> None:
    lora = of_four_rows(C_ATTN, keep_output=True, gradient_checkpointing=True)
    assert lora.peak_bytes == 935_492_608 - 4 * MASK_BYTES_A_ROW


def test_a_fused_optimizer_leaves_the_peak_to_the_backward_pass() -> None:
    full, lora = of_one_row(FULL), of_one_row(C_ATTN)
    # In full the peak is at the pass's end, where the mask is gone.
    assert (full.peak_bytes, full.peak_phase) == (2_325_625_344, "backward")
    assert (lora.peak_bytes, lora.peak_phase) == (715_301_888 - MASK_BYTES_A_ROW, "backward")


def test_weights_are_four_bytes_a_parameter() -> None:
    assert of_four_rows(FULL).memory.weights_bytes == 4 * PARAMETERS
    assert of_four_rows(C_ATTN, keep_output=True).memory.weights_bytes == 4 * (PARAMETERS + ADAPTER)


def test_operations_of_the_forward_pass_are_the_closed_form() -> None:
    # 2 N T, with N the parameters of matrix products, and 4 T s d for the two products of each attention.
    matrices = LAYERS * 12 * WIDTH**2 + WIDTH * VOCABULARY
    forward = 2 * TOKENS * matrices + LAYERS * 4 * TOKENS * LENGTH * WIDTH
    assert of_four_rows(FULL).flops.forward == forward == 128_912_719_872
    adapters = 2 * TOKENS * LAYERS * RANK * (WIDTH + 3 * WIDTH)
    assert of_four_rows(C_ATTN, keep_output=True).flops.forward == forward + adapters == 129_214_709_760


@pytest.mark.parametrize(
    ("method", "settings", "total"),
    [
        (FULL, {}, 387_946_119_168),
        # The first c_attn needs no gradient of its input: nothing below it trains.
        (C_ATTN, {"keep_output": True}, 260_537_057_280),
        (C_ATTN, {"keep_output": True, "gradient_checkpointing": True}, 352_046_284_800),
    ],
    ids=["full", "lora", "lora-with-checkpointing"],
)
def test_operations_of_an_update_are_known(method: Method, settings: dict[str, object], total: int) -> None:
    assert of_four_rows(method, **settings).flops.total == total


def test_activations_of_a_token_are_known() -> None:
    # Without dropout, and the logits counted. LoRA has 1251 kB on c_attn and 1437 kB on all linear layers.
    full = predicted(gpt2_without_dropout, FULL, batch_size=4, sequence_length=LENGTH, keep_output=True)
    assert round(full.activations_per_token / 1000) == 1441
