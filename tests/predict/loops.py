"""A training that takes milliseconds to predict, with a place in each of its steps for what a test is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pytest_ftcheck import Full, Job, LoRA, Recipe
from pytest_ftcheck.predict import Prediction, predict_recipe

VOCABULARY, WIDTH, LENGTH, ROWS = 20, 8, 6, 4
IGNORED = -100

Batch = dict[str, Tensor]
Step = Callable[[Job, Batch, Tensor], object]


class Model(nn.Module):
    """Next-token logits and their loss; ``inner`` is called on the activations, for what it does besides."""

    def __init__(self, inner: Callable[[Tensor], object] = lambda hidden: None) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = Layer(inner)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.layer(self.embed(input_ids)))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return {"loss": loss, "logits": logits}


class Layer(nn.Module):
    def __init__(self, inner: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.inner = nn.Linear(WIDTH, WIDTH), inner

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = torch.tanh(self.linear(hidden))
        self.inner(hidden)
        return hidden


def rows() -> list[Batch]:
    """The last label of the first row is not learned, and no other is left out."""
    ids = torch.randint(0, VOCABULARY, (8, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[::ROWS, -1] = IGNORED
    return [{"input_ids": row, "labels": wanted} for row, wanted in zip(ids, labels, strict=True)]


def loop_recipe(step: Step = lambda job, batch, loss: None, **changes: Any) -> Recipe:
    """A plain loop that calls ``step`` after each backward pass."""

    def train(job: Job) -> None:
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        for batch, _ in zip(DataLoader(job.train_data, batch_size=ROWS), range(job.steps), strict=False):
            batch = {key: value.to(job.device) for key, value in batch.items()}
            loss = job.model(**batch)["loss"]
            loss.backward()
            step(job, batch, loss)
            optimizer.step()
            optimizer.zero_grad()

    lora = LoRA(r=2, alpha=4, target_modules=["linear"])
    parts: dict[str, Any] = dict(name="loop", model=Model, train_data=rows(), train=train, full=Full(), lora=lora)
    return Recipe(**{**parts, **changes})


def predicted_with(step: Step, **changes: Any) -> Prediction:
    """What is predicted of the loop with ``step`` in it; an assertion that fails in there fails here."""
    return predict_recipe(loop_recipe(step, **changes))
