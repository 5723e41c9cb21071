"""Ranks as fresh interpreters: what a machine with a GPU starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recipes import tiny_recipe

from pytest_ftcheck import Full, Recipe
from pytest_ftcheck.distributed.launch import Phase, launched
from pytest_ftcheck.distributed.run import measure
from pytest_ftcheck.errors import TrainingError
from pytest_ftcheck.execution import memory_pass
from pytest_ftcheck.predict.process import VARIABLE
from pytest_ftcheck.run import Flops


class Plain(torch.nn.Module):
    """A model that no library need be imported for: each interpreter would import it anew."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": torch.nn.functional.cross_entropy(self.layer(x), labels)}


def plain_recipe(**changes: Any) -> Recipe:
    rows = [{"x": torch.full((4,), float(i)), "labels": i % 3} for i in range(8)]
    return Recipe(model=Plain, train_data=rows, full=Full(lr=0.1), lora=None, batch_size=2, threads=1, **changes)


def test_ranks_that_are_fresh_interpreters_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fresh")
    recipe = plain_recipe(processes=2, strategy="ddp")
    with launched("full", 0, "cpu", [Phase("measured", recipe, 2, 2, measure)], 120.0) as folders:
        found = [Flops.from_json((rank / "flops.json").read_text(encoding="utf-8")) for rank in folders["measured"]]
    _, flops = memory_pass(plain_recipe(), "full", 0, "cpu")
    assert found == [flops, flops]


def test_a_recipe_that_cannot_be_sent_to_one_is_told_by_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fresh")
    recipe = tiny_recipe(processes=2, strategy="ddp", train_data=(row for row in ()))
    phase = Phase("measured", recipe, 2, 2, measure)
    with (
        pytest.raises(TrainingError, match=r"processes cannot be started: Recipe.train_data \(generator\) cannot be"),
        launched("lora", 0, "cpu", [phase], 120.0),
    ):
        pass
