"""Each change of a training that a reviewer should hear of is in a prediction's figures, by the amount it must be.

Llama in everything but size: every tensor is a multiple of 512 bytes, so that amounts are those of the closed forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from predict.workloads import ALL_LINEAR, FULL, Q_AND_V, predicted, tiny_llama
from torch import nn

from pytest_ftcheck import LoRA
from pytest_ftcheck.predict import Prediction, predict_recipe
from pytest_ftcheck.predict.workload import Workload
from pytest_ftcheck.recipe import Job
from pytest_ftcheck.theory.memory import static_bytes
from pytest_ftcheck.training import adapt

ROWS, LENGTH = 2, 64
TOKENS = ROWS * LENGTH
WIDTH, INNER, VOCABULARY, LAYERS = 256, 512, 512, 2
# Of the linear layers of a block, and of adapters of rank 8 on q and v of every block.
BLOCK, ADAPTERS = 4 * WIDTH**2 + 3 * WIDTH * INNER, LAYERS * 2 * 8 * 2 * WIDTH
PARAMETERS = 2 * VOCABULARY * WIDTH + LAYERS * (BLOCK + 2 * WIDTH) + WIDTH
LOGITS_BYTES = 4 * TOKENS * VOCABULARY
# A scalar, in what CUDA's allocator hands out at least.
LEAST = 512


def of_tiny_llama(method: Any = FULL, **settings: Any) -> Prediction:
    settings = {"batch_size": ROWS, "sequence_length": LENGTH, **settings}
    return predicted(tiny_llama, method, **settings)


def with_changes(
    adapted: Callable[[nn.Module], None] | None = None,
    train: Callable[[Job], None] | None = None,
    method: Any = FULL,
) -> Prediction:
    """The same with a change to the adapted model, or with another loop."""
    workload = Workload(model=tiny_llama(), method=method, batch_size=ROWS, sequence_length=LENGTH)
    recipe = workload.recipe()
    if adapted is not None:

        def changed(model: nn.Module, method: Any) -> nn.Module:
            model = adapt(model, method)
            adapted(model)
            return model

        recipe = recipe.replace(adapt=changed)
    return predict_recipe(recipe.replace(train=train or recipe.train), workload.method_name)


def loop(job: Job, keeps: str = "nothing", zeroed: bool = False, use_cache: bool = False) -> None:
    """A loop that keeps what it should not: the ``"logits"`` of every update, the last ``"output"``, or gradients."""
    job.model.train()
    ids = torch.ones(ROWS, LENGTH, dtype=torch.long).to(job.device)
    optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr, foreach=True)
    kept = []
    for _ in range(job.steps):
        output = job.model(input_ids=ids, labels=ids, use_cache=use_cache)
        loss = output.loss
        if keeps == "logits":
            kept.append(output.logits)
        if keeps != "output":
            del output
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=not zeroed)


@pytest.fixture(scope="module")
def plain() -> Prediction:
    return with_changes(train=loop)


def saved(prediction: Prediction) -> int:
    """What the forward pass leaves for the backward pass, in bytes."""
    return prediction.moment("saved").breakdown.activations


@pytest.mark.parametrize("method", [FULL, Q_AND_V], ids=["full", "lora"])
def test_static_memory_is_the_closed_form(method: Any) -> None:
    trainable, frozen = (PARAMETERS, 0) if method is FULL else (ADAPTERS, PARAMETERS)
    expected = static_bytes(trainable=trainable, frozen=frozen)
    memory = of_tiny_llama(method).memory
    # Buffers: the rotary frequencies twice, less than 512 bytes each. Step counts are on the CPU under foreach.
    assert memory.weights_bytes == expected.weights + 2 * LEAST
    assert (memory.gradients_bytes, memory.optimizer_bytes) == (expected.gradients, expected.optimizer)


def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    two, four, six = (of_tiny_llama(batch_size=rows) for rows in (2, 4, 6))
    assert saved(six) - saved(four) == saved(four) - saved(two) > 0
    assert two.memory.static_bytes == six.memory.static_bytes


def test_one_unfrozen_norm_is_seen_in_bytes_and_operations() -> None:
    def unfreeze(model: nn.Module) -> None:
        model.get_parameter("base_model.model.model.layers.0.input_layernorm.weight").requires_grad_(True)

    before, after = of_tiny_llama(Q_AND_V), with_changes(unfreeze, method=Q_AND_V)
    # Its gradient comes through q, k and v of the first block and two adapters, none of which had to pass one on.
    assert after.flops.backward - before.flops.backward == 2 * TOKENS * (3 * WIDTH**2 + 2 * 8 * WIDTH)
    assert after.flops.forward == before.flops.forward
    assert after.memory.gradients_bytes - before.memory.gradients_bytes == 4 * WIDTH
    assert after.memory.optimizer_bytes - before.memory.optimizer_bytes == 8 * WIDTH
    assert after.peak_bytes > before.peak_bytes


def test_switching_checkpointing_off_is_seen() -> None:
    on, off = of_tiny_llama(gradient_checkpointing=True), of_tiny_llama()
    assert off.activations_per_token > 2 * on.activations_per_token
    # Recomputed is what the backward pass needs: all of a block but its last layer, down, whose output nobody saved.
    attention = 4 * TOKENS * LENGTH * WIDTH
    recomputed = LAYERS * (2 * TOKENS * (BLOCK - WIDTH * INNER) + attention)
    assert on.flops.backward - off.flops.backward == recomputed


def test_a_doubled_rank_is_seen() -> None:
    before = of_tiny_llama(Q_AND_V)
    after = of_tiny_llama(LoRA(r=16, alpha=16, target_modules=["q_proj", "v_proj"]))
    assert after.memory.weights_bytes - before.memory.weights_bytes == 4 * ADAPTERS
    assert after.memory.gradients_bytes - before.memory.gradients_bytes == 4 * ADAPTERS
    assert after.memory.optimizer_bytes - before.memory.optimizer_bytes == 8 * ADAPTERS
    assert after.flops.forward - before.flops.forward == 2 * TOKENS * ADAPTERS
    # A x, for the gradient of B.
    assert saved(after) - saved(before) == 4 * TOKENS * 8 * 2 * LAYERS


def test_float32_adapters_keep_a_copy_of_the_input_of_each_layer() -> None:
    float32 = of_tiny_llama(ALL_LINEAR, dtype="bfloat16")
    bfloat16 = of_tiny_llama(ALL_LINEAR, dtype="bfloat16", autocast_adapter_dtype=False)
    # 4 bytes an element, for each adapted layer its own: q, k, v, o, gate and up take the width, down the inner one.
    assert copies_of_inputs(float32) == 4 * TOKENS * LAYERS * (6 * WIDTH + INNER)
    assert copies_of_inputs(bfloat16) == 0
    assert saved(float32) > saved(bfloat16)


def copies_of_inputs(prediction: Prediction) -> int:
    """Bytes that are saved of conversions to float32 in adapted layers."""
    held = [one for one in prediction.moment("saved").held if one.op == "aten::_to_copy" and one.dtype == "float32"]
    return sum(one.bytes for one in held if one.module.endswith("_proj"))


def test_a_cache_is_seen(plain: Prediction) -> None:
    # Let go of with the output, it costs no byte: its keys and values are saved in place of their originals.
    cached = with_changes(train=lambda job: loop(job, use_cache=True))
    assert cached.moment("saved").bytes == plain.moment("saved").bytes
    assert cached.moment("saved").held != plain.moment("saved").held
    kept, kept_cached = (
        with_changes(train=lambda job, on=on: loop(job, keeps="output", use_cache=on)) for on in (False, True)
    )
    assert kept_cached.peak_bytes - kept.peak_bytes == 4 * TOKENS * 2 * WIDTH * LAYERS


def test_kept_logits_are_seen(plain: Prediction) -> None:
    kept = with_changes(train=lambda job: loop(job, keeps="logits"))
    # Of two updates, while the second one goes backward.
    assert kept.moment("backward").bytes - plain.moment("backward").bytes == 2 * LOGITS_BYTES
    held = [one for one in kept.moment("optimizer").held if one.category == "activations"]
    assert (held[0].module, held[0].count, held[0].bytes) == ("lm_head", 2, 2 * LOGITS_BYTES)


def test_a_kept_output_is_the_logits_and_the_loss() -> None:
    kept, dropped = of_tiny_llama(keep_output=True), of_tiny_llama()
    assert kept.moment("optimizer").bytes - dropped.moment("optimizer").bytes == LOGITS_BYTES + LEAST


def test_gradients_that_are_set_to_zero_are_held_in_the_next_forward_pass(plain: Prediction) -> None:
    zeroed = with_changes(train=lambda job: loop(job, zeroed=True))
    assert zeroed.moment("saved").bytes - plain.moment("saved").bytes == plain.memory.gradients_bytes
    assert plain.moment("saved").breakdown.gradients == 0


def test_accumulation_holds_gradients_through_the_forward_pass() -> None:
    once, twice = of_tiny_llama(), of_tiny_llama(accumulation=2)
    assert twice.moment("saved").breakdown.gradients == once.memory.gradients_bytes
    assert once.moment("saved").breakdown.gradients == 0
    assert twice.flops.total == 2 * once.flops.total
    assert twice.activations_per_token == pytest.approx(once.activations_per_token, rel=0.01)


def test_dropout_of_the_adapter_is_seen() -> None:
    without = of_tiny_llama(Q_AND_V)
    dropped = of_tiny_llama(LoRA(r=8, alpha=16, target_modules=["q_proj", "v_proj"], dropout=0.1))
    # For each adapter its own input in place of one for both, and a mask of booleans where a gradient has to pass it,
    # which in the first block it has not.
    inputs, masks = LAYERS * (2 - 1) * 4 * TOKENS * WIDTH, (LAYERS - 1) * 2 * TOKENS * WIDTH
    assert saved(dropped) - saved(without) == inputs + masks


def test_foreach_holds_all_parameters_once_more_and_fused_does_not() -> None:
    foreach, fused, one_by_one = (of_tiny_llama(optimizer=f"adamw-{how}") for how in ("foreach", "fused", "loop"))
    assert foreach.peak_bytes - fused.peak_bytes > PARAMETERS
    assert foreach.moment("optimizer").breakdown.temporaries >= 4 * PARAMETERS
    # One tensor at a time takes twice the largest.
    assert 8 * VOCABULARY * WIDTH <= one_by_one.moment("optimizer").breakdown.temporaries < 4 * PARAMETERS
    # Under fused the step counts are on the GPU, in 512 bytes each.
    tensors = 3 + LAYERS * 9
    assert fused.memory.optimizer_bytes - foreach.memory.optimizer_bytes == LEAST * tensors


def test_eager_attention_keeps_a_score_for_each_pair_of_tokens() -> None:
    def bend(attention: str) -> int:
        """By how much twice the length saves more than twice as much."""
        short, long = (of_tiny_llama(attention=attention, sequence_length=length) for length in (LENGTH, 2 * LENGTH))
        return saved(long) - 2 * saved(short)

    heads = 4
    scores = 4 * ROWS * heads * LENGTH**2
    assert bend("eager") == pytest.approx(2 * LAYERS * scores, abs=10 * LEAST)
    assert bend("sdpa") == pytest.approx(0, abs=10 * LEAST)
