from __future__ import annotations

import pytest
import torch
from observers.models import Next, cross_entropy, loop, tokens
from torch.utils.checkpoint import checkpoint

from pytest_ftcheck import observe


def test_the_loss_is_what_backward_was_called_on() -> None:
    model = Next()
    with observe(model) as seen:
        expected = loop(model, steps=5)
    assert seen.loss.train == pytest.approx(expected, abs=0)
    assert len(set(seen.loss.train)) == 5


def test_micro_batches_of_an_update_add_up() -> None:
    model = Next()
    with observe(model) as seen:
        each = loop(model, steps=2, accumulation=4, loss=lambda step: cross_entropy(model, tokens(seed=step)) / 4)
    assert seen.loss.train == pytest.approx([sum(each[:4]), sum(each[4:])])


def test_a_loop_that_forgets_to_divide_shows_a_multiple() -> None:
    right, wrong = Next(), Next()
    wrong.load_state_dict(right.state_dict())
    with observe(right) as divided:
        loop(right, steps=1, accumulation=4, loss=lambda _: cross_entropy(right, tokens()) / 4)
    with observe(wrong) as undivided:
        loop(wrong, steps=1, accumulation=4, loss=lambda _: cross_entropy(wrong, tokens()))
    assert undivided.loss.train[0] == pytest.approx(4 * divided.loss.train[0])


def test_a_gradient_scaler_does_not_scale_the_recorded_loss() -> None:
    model = Next()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = cross_entropy(model, tokens())
    with observe(model) as seen:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
    assert seen.loss.train == (loss.item(),)


def test_the_backward_within_reentrant_checkpointing_is_no_loss() -> None:
    model = Next()

    def checkpointed(step: int) -> torch.Tensor:
        embedded = model.embed(tokens(seed=step))
        logits = checkpoint(model.head, embedded, use_reentrant=True)
        return logits.logsumexp(-1).mean()

    with observe(model) as seen:
        expected = loop(model, steps=3, loss=checkpointed)
    assert seen.loss.train == pytest.approx(expected, abs=0)


def test_a_backward_that_no_update_follows_counts_for_the_next_one() -> None:
    model = Next()
    with observe(model) as seen:
        cross_entropy(model, tokens()).backward()
    assert seen.loss.train == ()
    assert seen.updates == 0


@pytest.mark.parametrize("masked", [0, 1, 5])
def test_supervised_tokens_are_the_positions_that_receive_a_gradient(masked: int) -> None:
    model, ids = Next(), tokens(rows=3)
    labels = ids[:, 1:].clone()
    labels[0, :masked] = -100

    def loss(_: int) -> torch.Tensor:
        logits = model(input_ids=ids)[:, :-1]
        return torch.nn.functional.cross_entropy(logits.reshape(-1, 8), labels.reshape(-1))

    with observe(model) as seen:
        loop(model, steps=1, loss=loss)
    assert seen.loss.supervised_tokens == (15 - masked,)


def test_a_gradient_of_one_sign_counts_as_supervision() -> None:
    model = Next()
    with observe(model) as seen:
        loop(model, steps=2, loss=lambda step: (1 if step else -1) * model(input_ids=tokens())[:, 0, 0].sum())
    assert seen.loss.supervised_tokens == (2, 2)


def test_without_logits_the_number_of_supervised_tokens_is_unknown() -> None:
    class OnlyLoss(Next):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return super().forward(input_ids).logsumexp(-1).mean()

    model = OnlyLoss()
    with observe(model) as seen:
        loop(model, steps=2, loss=lambda step: model(input_ids=tokens(seed=step)))
    assert seen.loss.supervised_tokens == (None, None)
