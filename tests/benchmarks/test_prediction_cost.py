"""What a prediction costs, in processor time of its own process, which other work on the machine disturbs least.

Not part of the default run: `pytest tests/benchmarks`. Growth is compared within one run; the limits in seconds are
those that the project promises.
"""

from __future__ import annotations

import random
import resource
import time
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.observers.memory import Event
from pytest_ftcheck.predict import GPUS, predict_training
from pytest_ftcheck.predict.allocator import replay

EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Four times as much of something that costs as much each time, and what a shared machine adds: up to a quarter was
# seen. Where each costs as much as all before it, it would be 16.
FOUR_TIMES = 5.5
GIB = 2**30


def processor_seconds(**arguments: Any) -> float:
    """Of the process that predicts a training with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    predict_training(**arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def gpt2(layers: int = 12) -> GPT2Config:
    return GPT2Config(n_layer=layers)


def llama(layers: int, width: int, heads: int, inner: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        intermediate_size=inner,
        vocab_size=128256,
    )


def adapted(model: LlamaConfig) -> dict[str, Any]:
    """LoRA on every linear layer in bfloat16, with checkpointing."""
    return {
        "model": model,
        "method": LoRA(r=16, alpha=16, target_modules=EVERY_LINEAR),
        "sequence_length": 2048,
        "dtype": "bfloat16",
        "gradient_checkpointing": True,
    }


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Imports are in nobody's time."""
    predict_training(model=gpt2(1), method=LoRA(r=8, alpha=16, target_modules=["c_attn"]), sequence_length=8)


def test_gpt2_full_and_lora_take_at_most_five_seconds() -> None:
    shape = {"model": gpt2(), "batch_size": 4, "sequence_length": 128}
    full = processor_seconds(method=Full(), **shape)
    lora = processor_seconds(method=LoRA(r=8, alpha=16, target_modules=["c_attn"]), **shape)
    print(f"\nGPT-2: full {full:.2f} s, LoRA {lora:.2f} s")
    assert full + lora <= 5.0


def test_llama_8b_takes_at_most_25_seconds_and_two_gigabytes() -> None:
    took = processor_seconds(**adapted(llama(layers=32, width=4096, heads=32, inner=14336)))
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"\nLlama-8B, LoRA: {took:.1f} s, {held / GIB:.2f} GiB")
    assert took <= 25.0
    assert held <= 2 * GIB


def test_llama_70b_costs_as_much_a_layer_as_8b() -> None:
    # Shapes cost nothing; 10 layers of each.
    small = processor_seconds(**adapted(llama(layers=10, width=4096, heads=32, inner=14336)))
    large = processor_seconds(**adapted(llama(layers=10, width=8192, heads=64, inner=28672)))
    print(f"\n10 layers: of 8B {small:.1f} s, of 70B {large:.1f} s")
    assert large / small <= 1.3


def test_the_cost_is_linear_in_layers() -> None:
    few, many = (processor_seconds(**adapted(llama(layers, 256, 8, 512))) for layers in (6, 24))
    print(f"\n6 layers {few:.1f} s, 24 layers {many:.1f} s")
    assert many / few <= FOUR_TIMES


def test_the_cost_is_linear_in_micro_batches() -> None:
    few, many = (
        processor_seconds(model=gpt2(2), method=Full(), sequence_length=16, accumulation=micro) for micro in (12, 48)
    )
    print(f"\n12 micro-batches {few:.1f} s, 48 micro-batches {many:.1f} s")
    assert many / few <= FOUR_TIMES


def test_replaying_a_log_is_linear_in_its_length() -> None:
    def took(steps: int) -> float:
        drawn, live, events = random.Random(0), list[tuple[int, int]](), list[Event]()
        for number in range(steps):
            if len(live) >= 2000:
                storage, size = live.pop(drawn.randrange(len(live)))
                events.append(Event(storage, -size, "forward", 1))
            live.append((number, 512 * drawn.randrange(1, 2 ** drawn.randrange(1, 16))))
            events.append(Event(*live[-1], "forward", 1))
        began = time.process_time()
        replay(events, 2, (), GPUS["a100"])
        return time.process_time() - began

    quarter, whole = took(17_500), took(70_000)
    print(f"\n{whole:.2f} s for 138,000 events")
    assert whole / quarter <= FOUR_TIMES
    assert whole <= 1.0
