from __future__ import annotations

import pytest
import torch
from observers.models import Next, cross_entropy, loop, tokens
from torch.optim import optimizer as torch_optimizer

from pytest_ftcheck import observe
from pytest_ftcheck.observers.events import Events, Watcher


class Journal(Watcher):
    """Writes down the order of events."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def forward_begins(self, args: object, kwargs: object) -> None:
        self.lines.append("forward")

    def backward_begins(self, loss: object) -> None:
        self.lines.append("backward")

    def backward_ends(self) -> None:
        self.lines.append("backward ends")

    def update_begins(self, optimizer: object) -> None:
        self.lines.append("update")

    def update_ends(self, optimizer: object) -> None:
        self.lines.append("update ends")


def traces_of_observation(model: torch.nn.Module) -> tuple[object, ...]:
    """Everything that observation installs."""
    return (
        torch.autograd.backward,
        torch.amp.GradScaler.scale,
        len(model._forward_hooks) + len(model._forward_pre_hooks),
        len(torch_optimizer._global_optimizer_pre_hooks) + len(torch_optimizer._global_optimizer_post_hooks),
    )


def test_events_come_in_the_order_of_the_training() -> None:
    model, journal = Next(), Journal()
    with Events([journal]).listening() as events:
        events.attach(model)
        loop(model, steps=2)
    assert journal.lines == ["forward", "backward", "backward ends", "update", "update ends"] * 2


def test_nothing_is_announced_while_muted() -> None:
    model, journal = Next(), Journal()
    with Events([journal]).listening() as events:
        events.attach(model)
        with events.muted():
            loop(model, steps=1)
    assert journal.lines == []


@pytest.mark.parametrize("raises", [False, True])
def test_observation_leaves_no_trace(raises: bool) -> None:
    model = Next()
    before = traces_of_observation(model)
    try:
        with observe(model):
            assert traces_of_observation(model) != before
            if raises:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert traces_of_observation(model) == before


def test_observing_changes_no_bit_of_a_training() -> None:
    watched, alone = Next(dropout=0.5), Next(dropout=0.5)
    alone.load_state_dict(watched.state_dict())
    torch.manual_seed(3)
    expected = loop(alone, steps=6)
    torch.manual_seed(3)
    with observe(watched):
        assert loop(watched, steps=6) == expected
    for ours, theirs in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_attached_later_is_the_one_that_is_watched() -> None:
    first, second, journal = Next(), Next(), Journal()
    with Events([journal]).listening() as events:
        events.attach(first)
        events.attach(second)
        first(input_ids=tokens())
        assert journal.lines == []
        cross_entropy(second, tokens())
        assert journal.lines == ["forward"]


def test_backward_on_several_tensors_and_on_gradients_still_works() -> None:
    model = Next()
    with observe(model):
        logits = model(input_ids=tokens())
        torch.autograd.backward([logits.sum(), logits.mean()])
        assert model.head.bias.grad is not None
        model(input_ids=tokens()).backward(torch.ones(2, 6, 8))
