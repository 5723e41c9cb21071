from __future__ import annotations

import pytest
import torch
from observers.models import Next, cross_entropy, tokens

from pytest_ftcheck import observe


def test_groups_are_recorded_with_names_decay_and_the_rate_of_every_update() -> None:
    model = Next()
    optimizer = torch.optim.AdamW(
        [
            {"params": [model.embed.weight, model.head.weight], "weight_decay": 0.1},
            {"params": [model.head.bias], "weight_decay": 0.0, "lr": 0.5},
        ],
        lr=0.2,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    with observe(model) as seen:
        for _ in range(3):
            cross_entropy(model, tokens()).backward()
            optimizer.step()
            schedule.step()
    (record,) = seen.optimizers
    assert record.name == "AdamW"
    first, second = record.groups
    assert (first.parameters, first.weight_decay) == (("embed.weight", "head.weight"), 0.1)
    assert (second.parameters, second.weight_decay) == (("head.bias",), 0.0)
    assert first.lr == pytest.approx((0.2, 0.1, 0.2 / 3))
    assert second.lr == pytest.approx((0.5, 0.25, 0.5 / 3))


def test_another_models_optimizer_is_not_ours() -> None:
    model, other = Next(), Next()
    with observe(model) as seen:
        for watched in (other, model):
            optimizer = torch.optim.SGD(watched.parameters(), lr=0.1)
            cross_entropy(watched, tokens()).backward()
            optimizer.step()
    assert seen.updates == 1
    assert len(seen.optimizers) == 1


def test_two_optimizers_over_one_model_make_one_update_together() -> None:
    model = Next()
    pair = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.embed, model.head)]
    with observe(model) as seen:
        for _ in range(3):
            cross_entropy(model, tokens()).backward()
            for optimizer in pair:
                optimizer.step()
                optimizer.zero_grad()
    assert seen.updates == 3
    assert len(seen.loss.train) == 3
    assert [record.groups[0].parameters for record in seen.optimizers] == [
        ("embed.weight",),
        ("head.weight", "head.bias"),
    ]
    assert all(t.optimized and t.moved for t in seen.parameters.tensors)


def test_an_optimizer_made_before_the_parameters_were_replaced_is_not_ours() -> None:
    model = Next()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.embed, model.head = torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8)
    with observe(model) as seen:
        cross_entropy(model, tokens()).backward()
        optimizer.step()
    assert seen.updates == 0
