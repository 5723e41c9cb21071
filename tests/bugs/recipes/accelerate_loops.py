"""A loop with Hugging Face accelerate, as its examples have it, around a model that needs no other library."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from pytest_ftcheck import Full, Job, Recipe

WORDS, LENGTH = 32, 8


class Decoder(nn.Module):
    """Token ids [rows, length] -> logits [rows, length, words]: each token from the mean of those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.mix = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, WORDS, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return self.head(self.norm(x + torch.tanh(self.mix(before))))


def decoder() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Decoder()


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"input_ids": torch.tensor([draw.randrange(WORDS) for _ in range(LENGTH)])} for _ in range(count)]


def train_rows() -> list[dict[str, Any]]:
    return rows(64, seed=1)


def eval_rows() -> list[dict[str, Any]]:
    return rows(8, seed=2)


def next_token_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    ids = batch["input_ids"]
    return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def accelerator_for(job: Job, **more: Any) -> Accelerator:
    return Accelerator(gradient_accumulation_steps=job.accumulation, cpu=True, **more)


def seedable(job: Job) -> Accelerator:
    """Releases after 0.27 draw the order of an epoch from its number, where they are asked to."""
    try:
        from accelerate.utils import DataLoaderConfiguration
    except ImportError:
        return accelerator_for(job)
    return accelerator_for(job, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))


def keeping_two(job: Job) -> Accelerator:
    from accelerate.utils import ProjectConfiguration

    project = ProjectConfiguration(project_dir=str(job.output_dir), automatic_checkpoint_naming=True, total_limit=2)
    return accelerator_for(job, project_config=project)


class Loop:
    """Trains ``job`` with an accelerator; evaluates (and with ``saves`` saves, resumes) where the job asks for it."""

    def __init__(self, job: Job, accelerator: Accelerator, *, saves: bool = True) -> None:
        self.job, self.accelerator, self.saves = job, accelerator, saves
        torch.manual_seed(job.seed)
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=job.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (2 * job.steps))
        draw = torch.Generator().manual_seed(job.seed)
        loader = torch.utils.data.DataLoader(list(job.train_data), job.batch_size, shuffle=True, generator=draw)
        evals = torch.utils.data.DataLoader(list(job.eval_data), batch_size=job.batch_size)
        prepared = accelerator.prepare(job.model, optimizer, loader, evals, schedule)
        self.model, self.optimizer, self.loader, self.evals, self.schedule = prepared
        self.updates = self.first_epoch = self.skipped = 0

    def run(self) -> None:
        if self.job.resume_from:
            self.resume(self.job.resume_from)
        epoch = self.first_epoch
        while self.updates < self.job.steps:
            if hasattr(self.loader, "set_epoch"):
                self.loader.set_epoch(epoch)
            self.epoch(self.accelerator.skip_first_batches(self.loader, self.skipped) if self.skipped else self.loader)
            self.skipped = 0
            epoch += 1

    def epoch(self, loader: Any) -> None:
        for batch in loader:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(next_token_loss(self.model, batch))
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.updates += 1
                self.between_updates()
            if self.updates == self.job.steps:
                return

    def between_updates(self) -> None:
        if self.job.eval_steps and self.updates % self.job.eval_steps == 0:
            with torch.no_grad():
                for batch in self.evals:
                    next_token_loss(self.model, batch)
        if self.saves and self.job.save_steps and self.updates % self.job.save_steps == 0:
            self.save()

    def save(self) -> None:
        if self.accelerator.project_dir:
            self.accelerator.save_state()
        else:
            self.accelerator.save_state(str(self.job.output_dir / f"step_{self.updates}"))

    def resume(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder))
        self.updates = int(folder.name.split("_")[1])
        windows = -(-len(self.loader) // self.job.accumulation)
        self.first_epoch, window = divmod(self.updates, windows)
        self.skipped = window * self.job.accumulation


def train(job: Job) -> None:
    Loop(job, accelerator_for(job), saves=False).run()


def train_seedable(job: Job) -> None:
    Loop(job, seedable(job)).run()


def train_keeping_two(job: Job) -> None:
    Loop(job, keeping_two(job)).run()


def accelerate_recipe(**changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        name="accelerate",
        model=decoder,
        train=train,
        loss=next_token_loss,
        train_data=train_rows,
        eval_data=eval_rows,
        full=Full(lr=1e-2),
        lora=None,
        steps=20,
        batch_size=2,
        accumulation=4,
        threads=1,
    )
    return Recipe(**{**parts, **changes})


def resuming() -> Recipe:
    return accelerate_recipe(train=train_seedable)


def with_a_limit_on_checkpoints() -> Recipe:
    return accelerate_recipe(train=train_keeping_two)
