from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from observers.models import gpt2
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile

from pytest_ftcheck.observers.events import Events
from pytest_ftcheck.observers.memory import LiveBytes, MemoryWatch, summarize
from pytest_ftcheck.run import Memory

ROWS, LENGTH = 4, 64


def ids(rows: int = ROWS) -> torch.Tensor:
    return torch.randint(0, 4000, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


def lora(model: torch.nn.Module) -> torch.nn.Module:
    return get_peft_model(model, LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True))


def stepper(model: torch.nn.Module, rows: int = ROWS) -> Callable[[], None]:
    """One update of AdamW, one tensor at a time: the implementation whose temporaries are simplest."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, foreach=False)
    batch = ids(rows)

    def step() -> None:
        output = model(input_ids=batch, labels=batch)
        output.loss.backward()
        del output
        optimizer.step()
        optimizer.zero_grad()

    return step


def measured(
    model: torch.nn.Module, steps: int = 2, after: Callable[[], None] = lambda: None, rows: int = ROWS
) -> Memory:
    log = LiveBytes("cpu")
    step = stepper(model, rows)
    with Events([MemoryWatch(log)]).listening() as events, log:
        events.attach(model)
        for _ in range(steps):
            step()
            after()
    return summarize(log)


def profiled_peak(model: torch.nn.Module) -> int:
    """Peak bytes of the second update by the profiler's allocation events, on top of what lives before it."""
    step = stepper(model)
    step()
    optimizer_bytes = sum(8 * p.numel() + 4 for p in model.parameters() if p.requires_grad)
    resident = sum(p.nbytes for p in model.parameters()) + sum(b.nbytes for b in model.buffers()) + optimizer_bytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    waiting = list(recorded.profiler.kineto_results.experimental_event_tree())
    sizes = []
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.typed[0] == torch._C._profiler._EventType.Allocation:
            sizes.append((event.start_time_ns, event.typed[1].alloc_size))
    live = peak = 0
    for _, size in sorted(sizes, key=lambda pair: pair[0]):
        live += size
        peak = max(peak, live)
    return resident + peak


@pytest.mark.parametrize("adapt", [lambda model: model, lora], ids=["full", "lora"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_peak_is_within_one_percent_of_the_profilers(
    adapt: Callable[[torch.nn.Module], torch.nn.Module], dropout: float
) -> None:
    ours = measured(adapt(gpt2(dropout))).peak_bytes
    assert ours == pytest.approx(profiled_peak(adapt(gpt2(dropout))), rel=0.01)


@pytest.mark.parametrize("adapt", [lambda model: model, lora], ids=["full", "lora"])
def test_static_memory_is_the_closed_form_to_the_byte(adapt: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
    model = adapt(gpt2())
    trainable = [p for p in model.parameters() if p.requires_grad]
    memory = measured(model)
    assert memory.weights_bytes == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert memory.gradients_bytes == sum(p.nbytes for p in trainable)
    assert memory.optimizer_bytes == sum(2 * p.nbytes + 4 for p in trainable)


def test_the_parts_at_the_peak_add_up_to_it() -> None:
    memory = measured(gpt2())
    assert memory.at_peak.total == memory.peak_bytes
    assert memory.at_peak.weights == memory.weights_bytes


def test_with_little_data_full_peaks_when_all_gradients_are_there_and_lora_when_none_is() -> None:
    full, adapted = measured(gpt2(), rows=1), measured(lora(gpt2()), rows=1)
    assert full.at_peak.gradients > 0.9 * full.gradients_bytes
    assert adapted.peak_phase == "backward"
    assert adapted.at_peak.gradients == 0


def test_the_first_update_is_left_out_because_optimizer_state_is_missing_in_it() -> None:
    assert measured(gpt2(), steps=2).peak_bytes > 0
    assert measured(gpt2(), steps=2).optimizer_bytes == measured(gpt2(), steps=3).optimizer_bytes


def test_tensors_that_are_kept_raise_the_peak_by_their_size() -> None:
    kept: list[torch.Tensor] = []

    def keep() -> None:
        if not kept:
            kept.append(torch.zeros(1_000_000))

    assert measured(gpt2(0.0), after=keep).peak_bytes == measured(gpt2(0.0)).peak_bytes + 4_000_000


def test_a_view_of_older_data_counts_nothing() -> None:
    data = torch.zeros(10_000_000)
    log = LiveBytes("cpu")
    with log:
        rows = data[:10].reshape(2, 5)
        copy = rows.clone()
    assert [event.bytes for event in log.events] == [copy.nbytes]


def test_gradient_checkpointing_lowers_activations() -> None:
    model = gpt2()
    plain = measured(model)
    model.gradient_checkpointing_enable()
    assert measured(model).activations_bytes < 0.7 * plain.activations_bytes
