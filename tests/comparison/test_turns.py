"""A training that goes on only while it is its turn, in this process."""

from __future__ import annotations

import io
import json
import time
from typing import Any, NoReturn

import pytest
import torch
from recipes import tiny_recipe

from pytest_ftcheck import Job
from pytest_ftcheck.comparison.turns import Line, serve, train_in_turns
from pytest_ftcheck.errors import ComparisonError

WAIT_S = 1.0


class Left(BaseException):
    """The process would have ended."""


class Talk(Line):
    """A line whose requests were written down before."""

    def leave(self) -> NoReturn:
        raise Left

    @property
    def answered(self) -> list[dict[str, Any]]:
        assert isinstance(self.answers, io.StringIO)
        return [json.loads(line) for line in self.answers.getvalue().splitlines()]


class Slow(io.StringIO):
    """Requests that are long in coming."""

    def readline(self, *arguments: Any) -> str:
        time.sleep(WAIT_S)
        return super().readline(*arguments)


def talk(*requests: dict[str, Any], kind: type[io.StringIO] = io.StringIO) -> Talk:
    return Talk(kind("".join(json.dumps(one) + "\n" for one in requests)), io.StringIO())


def training(steps: int = 20, method: str = "lora") -> dict[str, Any]:
    return {"what": "train", "method": method, "seed": 0, "steps": steps}


def counted(updates: list[int], ends_after: int | None = None) -> Any:
    """A loop that counts its updates."""

    def train(job: Job) -> None:
        optimizer = torch.optim.SGD([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        for update in range(ends_after or job.steps):
            job.loss(job.model, job.collate(job.train_data[:4])).backward()
            optimizer.step()
            optimizer.zero_grad()
            updates.append(update)

    return train


def test_a_training_makes_the_updates_that_it_is_asked_for_and_times_each() -> None:
    updates: list[int] = []
    line = talk({"updates": 3}, {"updates": 2})
    with pytest.raises(Left):
        train_in_turns(tiny_recipe(train=counted(updates)), "cpu", line, training())
    assert [len(answer["seconds"]) for answer in line.answered] == [0, 3, 2]
    assert len(updates) == 5  # and the sixth was held when the coordinator left
    assert all(seconds > 0 for answer in line.answered for seconds in answer["seconds"])


def test_the_wait_for_a_turn_is_not_counted() -> None:
    line = talk({"updates": 2}, {"updates": 2}, kind=Slow)
    with pytest.raises(Left):
        train_in_turns(tiny_recipe(train=counted([])), "cpu", line, training())
    assert all(seconds < WAIT_S / 2 for answer in line.answered for seconds in answer["seconds"])


def test_a_training_that_ends_too_early_says_so() -> None:
    line = talk({"updates": 5})
    recipe = tiny_recipe(train=counted([], ends_after=4))
    with pytest.raises(ComparisonError, match=r"lora: train\(job\) ended after 4 updates; job.steps was 20, and"):
        train_in_turns(recipe, "cpu", line, training())


def test_what_goes_wrong_is_answered_and_the_next_request_served() -> None:
    def broken(job: Job) -> None:
        raise ValueError("no data")

    line = talk(training(method="dora"), training(), {"what": "cost", "method": "full", "seed": 0})
    with pytest.raises(Left):
        serve(tiny_recipe(train=broken), "cpu", line)
    errors = [answer["error"].splitlines()[0] for answer in line.answered]
    assert errors[0] == "no method 'dora' in the recipe; allowed: full, lora"
    assert all("train(job) raised ValueError: no data after 0 of" in error for error in errors[1:])


def test_a_cost_is_answered_after_what_it_imported_was_checked() -> None:
    def refuse() -> None:
        raise ComparisonError("it imported mine from this tree")

    request = {"what": "cost", "method": "full", "seed": 0}
    good, refused = talk(request), talk(request)
    for line, checked in ((good, lambda: None), (refused, refuse)):
        with pytest.raises(Left):
            serve(tiny_recipe(), "cpu", line, checked)
    assert "cost" in good.answered[0]
    assert refused.answered == [{"error": "it imported mine from this tree", "ended": False}]
