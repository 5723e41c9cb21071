"""What observing costs: a ratio of the same loop, observed and not, in one run.

Not part of the default run: `pytest tests/benchmarks`. Processor time, not wall time; the two in turn; and the smallest
of each, which is what a busy machine disturbs least.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from observers.models import gpt2

from pytest_ftcheck import observe

ALLOWED = 1.03
ROUNDS, STEPS = 40, 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def training() -> tuple[torch.nn.Module, Callable[[], None]]:
    """A step of about 10 ms on one core."""
    model = gpt2(layers=2, width=64, vocabulary=128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    ids = torch.randint(0, 128, (8, 32))

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, step


def seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS


def test_observing_costs_at_most_three_percent_of_a_ten_millisecond_step() -> None:
    model, step = training()
    for _ in range(10):
        step()
    plain, observed = [], []
    for _ in range(ROUNDS):
        plain.append(seconds(step))
        with observe(model):
            for _ in range(3):  # parameters and gradients are looked at in the first updates only
                step()
            observed.append(seconds(step))
    added_s = min(observed) - min(plain)
    print(f"\nstep {min(plain) * 1e3:.2f} ms, observing adds {added_s * 1e6:.0f} us ({added_s / min(plain):+.2%})")
    assert added_s <= (ALLOWED - 1) * 10e-3
    assert min(observed) / min(plain) <= ALLOWED + 0.03  # of this step, which may be shorter than 10 ms


def test_the_measure_sees_a_watcher_that_is_too_slow() -> None:
    """The control: half a millisecond more in every step is found."""
    model, step = training()
    for _ in range(10):
        step()

    def busy(*_: object) -> None:
        end = time.process_time() + 0.5e-3
        while time.process_time() < end:
            pass

    plain, slowed = [], []
    for _ in range(ROUNDS // 2):
        plain.append(seconds(step))
        with contextlib.ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(busy).remove)
            slowed.append(seconds(step))
    assert min(slowed) - min(plain) > (ALLOWED - 1) * 10e-3
