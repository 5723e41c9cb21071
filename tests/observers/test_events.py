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

    def optimizer_rebuilt(self, old: object, new: object) -> None:
        self.lines.append("rebuilt")

    def schedule_stepped(self, schedule: object, created: bool) -> None:
        self.lines.append("schedule made" if created else "schedule")


def traces_of_observation(model: torch.nn.Module) -> tuple[object, ...]:
    """Everything that observation installs."""
    return (
        torch.autograd.backward,
        torch.amp.GradScaler.scale,
        torch.optim.lr_scheduler.LRScheduler.step,
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


def test_an_update_with_a_closure_begins_when_the_closure_has_run() -> None:
    model, journal = Next(), Journal()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        loss = cross_entropy(model, tokens())
        loss.backward()
        return loss

    with Events([journal]).listening() as events:
        events.attach(model)
        returned = [optimizer.step(closure), optimizer.step(closure=closure)]
    assert journal.lines == ["forward", "backward", "backward ends", "update", "update ends"] * 2
    assert all(isinstance(loss, torch.Tensor) for loss in returned)


def test_an_optimizer_made_anew_goes_on_with_the_updates_of_the_first() -> None:
    model, journal = Next(), Journal()
    with Events([journal]).listening() as events:
        events.attach(model)
        loop(model, steps=1)
        loop(model, steps=1)
    update = ["forward", "backward", "backward ends", "update", "update ends"]
    assert journal.lines == [*update, *update[:3], "rebuilt", *update[3:]]


def test_two_optimizers_with_the_same_parameters_make_one_update() -> None:
    model, journal = Next(), Journal()
    pair = [torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2)]
    with Events([journal]).listening() as events:
        events.attach(model)
        for _ in range(2):
            cross_entropy(model, tokens()).backward()
            for optimizer in pair:
                optimizer.step()
    assert journal.lines.count("update") == 2
    assert "rebuilt" not in journal.lines


def test_steps_of_a_schedule_are_told_from_its_making() -> None:
    model, journal = Next(), Journal()
    with Events([journal]).listening() as events:
        events.attach(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        optimizer.step()
        schedule.step()
    assert journal.lines == ["schedule made", "update", "update ends", "schedule"]
    assert schedule.get_last_lr() == [0.05]
