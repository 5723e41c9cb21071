"""What a training shows of itself costs next to nothing, and leaves no trace in what is measured."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
import torch
from progress.listener import Listener
from recipes import tiny_recipe

from pytest_ftcheck.execution import execute
from pytest_ftcheck.progress import audience, watch
from pytest_ftcheck.progress.state import MEASURES, TRAINS
from pytest_ftcheck.progress.watch import EVERY_S, LossReading, ProgressWatch

OPTIMIZER: Any = None  # the watcher does not look at it


class Clock:
    """The monotonic clock, as far as it is wound on."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


def test_it_tells_once_in_a_while_and_reads_the_loss_only_then(clock: Clock) -> None:
    told: list[tuple[int, float | None, float | None]] = []
    reads = []

    def latest() -> torch.Tensor:
        reads.append(clock.now_s)
        return torch.tensor(2.5)

    watcher = ProgressWatch(100, lambda *state: told.append(state))
    watcher.latest = latest
    for _ in range(40):
        clock.now_s += EVERY_S / 8  # exact in binary
        watcher.update_ends(OPTIMIZER)
    assert [step for step, *_ in told] == [8, 16, 24, 32, 40]
    assert len(reads) == 5
    assert told[-1] == (40, 2.5, pytest.approx(60 * EVERY_S / 8))


def test_the_time_left_is_not_told_from_the_first_update(clock: Clock) -> None:
    """It compiles and allocates: here it takes a hundred times as long as the others."""
    told: list[float | None] = []
    watcher = ProgressWatch(11, lambda step, loss, left_s: told.append(left_s))
    clock.now_s += 100 * EVERY_S
    watcher.update_ends(OPTIMIZER)
    clock.now_s += EVERY_S
    watcher.update_ends(OPTIMIZER)
    assert told == [None, pytest.approx(9 * EVERY_S)]


class LossOnGpu:
    """A pretended loss on a GPU: reading it would make the host wait."""

    is_cuda, shape, dtype = True, (), torch.float32

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        raise AssertionError("the host waited for the GPU")


@pytest.mark.parametrize("arrives_after", [1, 3])
def test_a_loss_on_a_gpu_is_copied_behind_the_work_and_read_when_it_has_arrived(
    monkeypatch: pytest.MonkeyPatch, arrives_after: int
) -> None:
    looks = 0

    class Copy:
        value = 0.0

        def copy_(self, loss: LossOnGpu, non_blocking: bool) -> None:
            assert non_blocking
            self.value = loss.value

        def __float__(self) -> float:
            assert looks > arrives_after, "read before it was there"
            return self.value

    class Event:
        def __init__(self) -> None:
            self.begun = looks

        def record(self) -> None: ...

        def query(self) -> bool:
            return looks - self.begun >= arrives_after

    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: Copy() if pin_memory else None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    reading, shown = LossReading(), []
    for looks in range(1, 5):
        shown.append(reading.of(LossOnGpu(float(looks))))  # type: ignore[arg-type]
    assert shown == ([None, 1.0, 2.0, 3.0] if arrives_after == 1 else [None, None, None, 1.0])


def test_nothing_is_copied_into_a_graph_that_is_being_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: pytest.fail("joined the recording"))
    assert LossReading().of(LossOnGpu(1.0)) is None  # type: ignore[arg-type]


def test_a_run_that_is_watched_closely_is_the_run_that_nobody_watches(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(eval_steps=(2, 4))
    audience.dismiss(listener)
    alone = execute(recipe, "lora", 0, 6, "cpu")
    assert listener.states == []
    audience.admit(listener)
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    watched = execute(recipe, "lora", 0, 6, "cpu")
    assert [state.step for state in listener.states if state.doing == TRAINS] == [1, 2, 3, 4, 5, 6]
    assert [state.loss for state in listener.states if state.doing == TRAINS] == list(watched.loss.train)
    assert [state.doing for state in listener.states][-1] == MEASURES
    assert listener.endings == 2
    # Bit by bit, bytes and operations too; only the times are those of another training.
    assert dataclasses.replace(watched, time=alone.time) == alone


def test_step_times_leave_out_what_is_told(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    slow_s = 0.2
    monkeypatch.setattr(listener, "tell", lambda state: time.sleep(slow_s))
    run = execute(tiny_recipe(), "lora", 0, 4, "cpu")
    # The negative control is below: the same sleep within the loop is seen.
    assert max(run.time.samples_s) < slow_s


def test_step_times_have_what_a_loop_does_itself() -> None:
    from pytest_ftcheck import Job
    from pytest_ftcheck.training import train

    def slow(job: Job) -> None:
        job.model.register_forward_hook(lambda *_: time.sleep(0.2))
        train(job)

    run = execute(tiny_recipe(train=slow), "lora", 0, 3, "cpu")
    assert min(run.time.samples_s) >= 0.2
