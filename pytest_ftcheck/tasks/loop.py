"""A training loop with everything that a real one has, and nothing wrong: what broken ones differ from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..training import sum_over_ranks, supervised_tokens
from . import checkpoint

if TYPE_CHECKING:
    from torch import nn

    from ..recipe import Job

WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0


def train(job: Job) -> None:
    """AdamW with decay on matrices only, linear warm-up and decay, clipping, windows that end with their epoch."""
    import torch

    torch.manual_seed(job.seed)
    optimizer = torch.optim.AdamW(decayed_and_not(job.model), lr=job.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear(step, job.steps))
    trainable = [p for p in job.model.parameters() if p.requires_grad]
    windows = epochs(job)
    job.model.train()
    done = 0
    if job.resume_from is not None:
        done = checkpoint.load(job.resume_from, job.model, optimizer, schedule)
        windows = itertools.islice(windows, done, None)
    for update in range(done + 1, job.steps + 1):
        batches = [job.collate(rows) for rows in next(windows)]
        tokens = [supervised_tokens(batch, job.model) for batch in batches]
        total = sum_over_ranks(sum(tokens), job)
        for batch, count in zip(batches, tokens, strict=True):
            # Strategies take the mean of the ranks' gradients.
            (job.loss(job.model, batch) * (count * job.processes / total)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trainable, MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if job.eval_steps and update % job.eval_steps == 0:
            evaluate(job)
        if job.save_steps and update % job.save_steps == 0:
            checkpoint.save(job.output_dir / f"checkpoint-{update}", job.model, optimizer, schedule, update)


def decayed_and_not(model: nn.Module) -> list[dict[str, Any]]:
    """Two optimizer groups: matrices, which decay, and norms and biases, which do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]


def linear(step: int, steps: int) -> float:
    """The factor on the learning rate in update ``step`` (from 0): up over the first tenth, then down to 0."""
    warm_up = max(1, int(WARM_UP_SHARE * steps))
    return min(1.0, (step + 1) / warm_up) * min(1.0, (steps - step) / max(1, steps - warm_up))


def epochs(job: Job) -> Iterator[list[list[Any]]]:
    """For each update the rows of its batches: a new order every epoch, drawn from the seed; the last window of an
    epoch is short where the rows do not divide evenly. Several processes divide each batch among them, and leave out
    the rows at the end of an epoch that not all of them would have a batch of.
    """
    import torch

    generator = torch.Generator().manual_seed(job.seed)
    size, together = job.batch_size, job.batch_size * job.processes
    while True:
        order = torch.randperm(len(job.train_data), generator=generator).tolist()
        if job.processes > 1:
            starts = range(job.rank * size, len(order) - len(order) % together, together)
            order = [index for start in starts for index in order[start : start + size]]
        batches = [[job.train_data[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
        for start in range(0, len(batches), job.accumulation):
            yield batches[start : start + job.accumulation]


def evaluate(job: Job) -> float:
    """The mean loss on the evaluation data, without dropout, gradients, or a trace in the generators."""
    import torch

    from ..training import evaluate as mean_loss

    job.model.eval()
    with torch.random.fork_rng(devices=[]):
        loss = mean_loss(job)
    job.model.train()
    return loss
