"""Sums of gradients: which are made in place is held to what torch's own engine does with real tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pytest_ftcheck.predict.accumulation import Accumulation
from pytest_ftcheck.predict.device import FakeDevice
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.modules import ModuleWatch
from pytest_ftcheck.predict.timeline import Timeline

Use = Callable[[Tensor], Tensor]
IN_PLACE, NEW = "aten::add_", "aten::add"
HELD: list[Tensor] = []


def hold(tensor: Tensor) -> Tensor:
    """``tensor``, the gradient of which somebody keeps."""
    tensor.register_hook(HELD.append)  # type: ignore[no-untyped-call]
    return tensor


def skipped(hidden: Tensor) -> Tensor:
    """The first gradient is one number for all elements, as of the sum that is the loss."""
    return hidden.sin() + (hidden + 0.0)


# What is done with a tensor, and how torch adds the gradients that come of it.
USES: dict[str, tuple[Use, list[str]]] = {
    "once": (lambda h: h.sin(), []),
    "twice": (lambda h: h.sin() * h.cos(), [IN_PLACE]),
    "three times": (lambda h: h.sin() * h.cos() * h.exp(), [IN_PLACE, IN_PLACE]),
    "as views": (lambda h: h.view(2, 32).sin() * h.view(2, 32).cos(), [NEW]),
    "as two matrices": (lambda h: h.view(8, 8) @ h.view(8, 8), [NEW]),
    "held by somebody": (lambda h: hold(h * 1).clone() * h.sin(), [IN_PLACE]),
    "expanded": (skipped, [NEW]),
    "as by a residual connection": (lambda h: (h + (h + 0.0).sin()).exp(), [IN_PLACE]),
}


class Listening(Timeline):  # type: ignore[no-untyped-call]
    """Keeps the names of the sums."""

    sums: list[str]

    def _carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.phase == "backward" and func._schema.name in (IN_PLACE, NEW):
            self.sums.append(func._schema.name)
        return super()._carried_out(func, args, kwargs)


@pytest.fixture
def timeline(tmp_path: Path) -> Iterator[Listening]:
    """On the fake CPU, which needs no process of its own."""
    modules = ModuleWatch()
    found = Listening(FakeDevice("cpu"), GPUS["a100"], modules, Journal(tmp_path / "journal"))
    found.sums = []
    yield found
    for hook in modules._hooks:
        hook.remove()


def predicted(timeline: Timeline, use: Use) -> None:
    HELD.clear()
    with timeline.device.mode:
        x = torch.ones(64, requires_grad=True)
    with timeline:
        loss = use(x * 1).sum()
        timeline.phase = "backward"
        loss.backward()  # type: ignore[no-untyped-call]


def measured(use: Use) -> list[str]:
    HELD.clear()
    loss = use(torch.ones(64, requires_grad=True) * 1).sum()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        loss.backward()  # type: ignore[no-untyped-call]
    by_engine = (e for e in seen.events() if e.cpu_parent is not None and "evaluate_function" in e.cpu_parent.name)
    return [event.name for event in by_engine if event.name in (IN_PLACE, NEW)]


@pytest.mark.parametrize("name", USES)
def test_gradients_are_added_as_torch_adds_real_ones(name: str, timeline: Listening) -> None:
    use, sums = USES[name]
    timeline.accumulation = Accumulation(timeline.device)

    predicted(timeline, use)

    assert timeline.sums == measured(use) == sums


def test_left_to_itself_a_dry_run_would_add_none_in_place(timeline: Listening) -> None:
    # As a control: what Accumulation is for.
    predicted(timeline, USES["twice"][0])

    assert timeline.sums == [NEW] != measured(USES["twice"][0])


def test_a_sum_in_place_brings_no_tensor_to_life(timeline: Listening) -> None:
    sizes = {}
    for known in (None, Accumulation(timeline.device)):
        timeline.accumulation, timeline.phase, before = known, "forward", len(timeline.events)
        predicted(timeline, USES["twice"][0])
        sizes[known is None] = sum(event.bytes for event in timeline.events[before:] if event.bytes > 0)

    assert sizes[True] - sizes[False] == 64 * 4


def test_what_the_training_adds_itself_is_left_alone(timeline: Listening) -> None:
    timeline.accumulation = Accumulation(timeline.device)
    with timeline.device.mode:
        x = torch.ones(64)
    with timeline, torch.no_grad():
        timeline.phase = "backward"
        assert x * 1 + x is not x

    assert timeline.sums == [NEW]
