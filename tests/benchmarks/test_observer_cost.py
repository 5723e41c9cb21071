"""What observing costs: a step observed and the same step not observed, in turn, in one run.

Not part of the default run: `pytest tests/benchmarks`. Processor time, not wall time; and the median of paired
differences, because the speed of a shared machine drifts by more than what is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from observers.models import gpt2

from pytest_ftcheck.observers import Observation
from pytest_ftcheck.observers.parameters import PROBED_UPDATES

ALLOWED = 0.03  # of a step of about 10 ms
PAIRS = 300


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
    step()
    return time.process_time() - start


def added_seconds(step: Callable[[], None], other: Callable[[], None]) -> tuple[float, float]:
    """Seconds of ``step``, and how many more ``other`` takes: medians over pairs."""
    pairs = [(seconds(step), seconds(other)) for _ in range(PAIRS)]
    return statistics.median(a for a, _ in pairs), statistics.median(b - a for a, b in pairs)


def test_observing_costs_at_most_three_percent_of_a_ten_millisecond_step() -> None:
    model, step = training()
    seen = Observation()
    with seen.events.listening() as events:
        events.attach(model)
        for _ in range(PROBED_UPDATES + 5):  # parameters and gradients are looked at in the first updates only
            step()
        events.watchers, watchers = [], events.watchers
        plain, idle = added_seconds(step, step)

        def observed() -> None:
            events.watchers = watchers
            step()
            events.watchers = []

        _, added = added_seconds(step, observed)
    print(f"\nstep {plain * 1e3:.2f} ms, observing adds {added / plain:.2%} (A/A: {idle / plain:.2%})")
    assert seen.updates > PAIRS
    assert added / plain <= ALLOWED


def test_the_measure_sees_a_watcher_that_is_too_slow() -> None:
    """The control: a millisecond more in every step is found."""
    _, step = training()

    def slowed() -> None:
        end = time.process_time() + 1e-3
        while time.process_time() < end:
            pass
        step()

    plain, added = added_seconds(step, slowed)
    assert added / plain > ALLOWED
