"""What a training sees on the fake GPU, brought back from the process in which it runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ftcheck import Recipe
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.recipe import Job


def observed(do: Callable[[str], Any], gpu: str = "h100") -> Any:
    """What ``do(device)`` returns, by way of JSON, where a training on ``gpu`` calls it before its first update."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observed.json"

        def train(job: Job) -> None:
            path.write_text(json.dumps(do(job.device)), encoding="utf-8")
            optimizer = torch.optim.SGD(job.model.parameters(), lr=job.lr)
            for _ in range(job.steps):
                job.model(torch.ones(1, 2, device=job.device)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()

        predict_recipe(Recipe(model=lambda: nn.Linear(2, 2), train=train, train_data=[0]), gpu=gpu)
        return json.loads(path.read_text(encoding="utf-8"))
