"""Training loops of several processes as people write them: they distribute by themselves, from torchrun's environment,
and each of the known mistakes can be made in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from pytest_ftcheck import Job
from pytest_ftcheck.training import supervised_tokens

Bug = str | None


class SeenMean(torch.nn.Module):
    """Counts what it has seen: a running statistic of this rank's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1), persistent=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.9).add_(0.1 * value.detach().float().mean())
        return value


def with_running_mean(model: Any, method: Any) -> Any:
    """The recipe's ``adapt`` with a module that keeps a running mean."""
    from pytest_ftcheck.training import adapt

    adapted = adapt(model, method)
    seen = SeenMean()
    adapted.add_module("seen", seen)
    embedding = next(m for m in adapted.modules() if isinstance(m, torch.nn.Embedding))
    embedding.register_forward_hook(lambda _, args, output: seen(output))
    return adapted


def ddp(bug: Bug = None) -> Callable[[Job], None]:
    """A loop by DistributedDataParallel and DistributedSampler, with one mistake in it, or none."""

    def train(job: Job) -> None:
        dist.init_process_group("gloo")
        rank, world = dist.get_rank(), dist.get_world_size()
        assert (rank, world) == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        torch.manual_seed(job.seed)
        wrapper = _wrapped(job, bug)
        optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        parts = (1, 0) if bug == "same rows" else (world, rank)
        sampler: Any = DistributedSampler(job.train_data, *parts, seed=job.seed, drop_last=True)
        loader = DataLoader(job.train_data, job.batch_size, sampler=sampler, collate_fn=list, drop_last=True)
        window: list[Any] = []
        done, epoch = 0, 0
        while done < job.steps:
            if bug != "no set_epoch":
                sampler.set_epoch(epoch)
            for rows in loader:
                window.append(job.collate(rows))
                if len(window) == job.accumulation and done < job.steps:
                    _update(job, wrapper, optimizer, window, bug)
                    window, done = [], done + 1
            epoch += 1
        dist.destroy_process_group()

    return train


def _wrapped(job: Job, bug: Bug) -> Any:
    job.model.train()
    if bug == "adapter outside":
        late = [p for p in job.model.parameters() if p.requires_grad][2:]
        for parameter in late:
            parameter.requires_grad_(False)
        wrapper = DistributedDataParallel(job.model)
        for parameter in late:
            parameter.requires_grad_(True)
        return wrapper
    if bug == "moved after wrapping":
        return DistributedDataParallel(job.model.double(), find_unused_parameters=True).float()
    return DistributedDataParallel(job.model, broadcast_buffers=bug != "buffer drift")


def _update(job: Job, wrapper: Any, optimizer: Any, window: list[Any], bug: Bug) -> None:
    world = dist.get_world_size()
    tokens = [supervised_tokens(batch, job.model) for batch in window]
    total = torch.tensor(sum(tokens))
    if bug != "mean of means":
        dist.all_reduce(total)
    share = 1 if bug in ("mean of means", "divided twice") else world
    model = job.model if bug == "unsynchronised" else wrapper
    for batch, count in zip(window, tokens, strict=True):
        (model(**batch).loss * (share * count / float(total))).backward()
    torch.nn.utils.clip_grad_norm_(job.model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def fsdp2(bug: Bug = None) -> Callable[[Job], None]:
    """A loop by ``fully_shard``; with "optimizer before", its optimizer is made first."""

    def train(job: Job) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        dist.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))

        def optimizer_of(model: Any) -> Any:
            return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=job.lr, foreach=False)

        optimizer = optimizer_of(job.model)
        for block in [m for m in job.model.modules() if type(m).__name__.endswith(("DecoderLayer", "Block"))]:
            fully_shard(block, mesh=mesh)
        fully_shard(job.model, mesh=mesh)
        optimizer = optimizer if bug == "optimizer before" else optimizer_of(job.model)
        job.model.train()
        sampler: Any = DistributedSampler(job.train_data, seed=job.seed, drop_last=True)
        done, epoch = 0, 0
        window: list[Any] = []
        while done < job.steps:
            sampler.set_epoch(epoch)
            for rows in DataLoader(job.train_data, job.batch_size, sampler=sampler, collate_fn=list, drop_last=True):
                window.append(job.collate(rows))
                if len(window) == job.accumulation and done < job.steps:
                    _update(job, job.model, optimizer, window, bug)
                    window, done = [], done + 1
            epoch += 1

    return train


def gathered(model: Any, folder: Path) -> None:
    """A ``save`` that gathers the whole state first."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not dist.is_initialized() or dist.get_rank() == 0:
        model.save_pretrained(str(folder), state_dict=state)


def own_shard(model: Any, folder: Path) -> None:
    """A ``save`` of what rank 0 happens to hold."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        state = {n: (t.to_local() if hasattr(t, "to_local") else t).contiguous() for n, t in model.state_dict().items()}
        model.save_pretrained(str(folder), state_dict=state)


def make_trainer(job: Job) -> Any:
    """A Hugging Face Trainer, which finds its processes by accelerate."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(job.output_dir),
        per_device_train_batch_size=job.batch_size,
        gradient_accumulation_steps=job.accumulation,
        max_steps=job.steps,
        learning_rate=job.lr,
        seed=job.seed,
        report_to=[],
        use_cpu=job.device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
    )
    return Trainer(job.model, arguments, train_dataset=job.train_data, data_collator=job.recipe.collate)


def accelerated(job: Job) -> None:
    """A loop by accelerate's Accelerator."""
    from accelerate import Accelerator

    accelerator = Accelerator(gradient_accumulation_steps=job.accumulation, cpu=job.device == "cpu")
    optimizer: Any = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
    loader: Any = DataLoader(
        job.train_data,
        job.batch_size,
        shuffle=True,
        collate_fn=job.recipe.collate,
        generator=torch.Generator().manual_seed(job.seed),
    )
    model, optimizer, loader = accelerator.prepare(job.model, optimizer, loader)
    model.train()
    done, window = 0, []
    while done < job.steps:
        for batch in loader:
            window.append(batch)
            if len(window) == job.accumulation and done < job.steps:
                tokens = [supervised_tokens(one, job.model) for one in window]
                total = accelerator.reduce(torch.tensor(sum(tokens)), "sum")
                for index, (one, count) in enumerate(zip(window, tokens, strict=True), start=1):
                    accelerator.gradient_state._set_sync_gradients(index == len(window))
                    share = count * accelerator.num_processes * job.accumulation / float(total)
                    accelerator.backward(model(**one).loss * share)
                optimizer.step()
                optimizer.zero_grad()
                window, done = [], done + 1
