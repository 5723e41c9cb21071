"""Ways to break a training of several processes. A recipe of one process has nothing of theirs to break."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .equivalence import losses_times
from .wrapping import after_adapting, around_training, patched

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from ...recipe import Job, Recipe


def of_several_processes(recipe: Recipe, strategy: Any = None) -> Recipe:
    """``recipe`` with ``strategy`` in place of its own. NotApplicable where it has none, or trains in one process."""
    if recipe.processes == 1:
        raise NotApplicable("the recipe trains in one process")
    if recipe.strategy is None:
        raise NotApplicable("train(job) distributes by itself, in ways that cannot be broken from outside")
    return recipe if strategy is None else recipe.replace(strategy=strategy)


def _unsynchronised(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        from torch.nn.parallel import DistributedDataParallel

        def forward(this: Any, *args: Any, **kwargs: Any) -> Any:
            with this.no_sync():
                return original(this, *args, **kwargs)

        with patched(DistributedDataParallel, "forward", forward) as original:
            yield

    return around_training(of_several_processes(recipe, "ddp"), context)


def _mean_of_rank_means(recipe: Recipe) -> Recipe:
    def share(job: Job) -> Callable[[dict[str, Any]], float]:
        from ...training import sum_over_ranks, supervised_tokens

        def factor(inputs: dict[str, Any]) -> float:
            own = supervised_tokens(inputs, job.model)
            # A loss per token of all ranks becomes one per token of this rank.
            return sum_over_ranks(own, job) / (job.processes * own) if own else 1.0

        return factor

    return around_training(of_several_processes(recipe), lambda job: losses_times(job, share(job)))


def _divided_twice(recipe: Recipe) -> Recipe:
    return around_training(of_several_processes(recipe), lambda job: losses_times(job, lambda _: 1 / job.processes))


def _same_rows(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        job.rank = 0
        yield

    return around_training(of_several_processes(recipe), context)


def _buffers_drift(recipe: Recipe) -> Recipe:
    def counted(model: nn.Module) -> None:
        import torch
        from torch import nn

        layer: Any = next(m for m in model.modules() if isinstance(m, nn.Embedding))
        layer.register_buffer("seen", torch.zeros(1), persistent=False)
        layer.register_forward_hook(_count)

    def strategy(model: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model, broadcast_buffers=False)

    return after_adapting(of_several_processes(recipe, strategy), counted)


def _count(layer: Any, _: Any, output: Any) -> None:
    layer.seen.mul_(0.9).add_(0.1 * output.detach().float().mean())


def _without_set_epoch(recipe: Recipe) -> Recipe:
    return of_several_processes(recipe).replace(train=_sampled_once)


def _sampled_once(job: Job) -> None:
    """A loop by DistributedSampler that never tells it which epoch it is."""
    import torch
    from torch.utils.data import BatchSampler, DistributedSampler

    sampler: Any = DistributedSampler(job.train_data, job.processes, job.rank, seed=job.seed, drop_last=True)
    optimizer = torch.optim.AdamW([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
    batches: Iterator[list[int]] = iter(())
    job.model.train()
    for done in range(1, job.steps * job.accumulation + 1):
        indices = next(batches, None)
        if indices is None:
            batches = iter(BatchSampler(sampler, job.batch_size, drop_last=True))
            indices = next(batches)
        loss: Any = job.loss(job.model, job.collate([job.train_data[i] for i in indices]))
        (loss / job.accumulation).backward()
        if done % job.accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()


def _adapter_outside(recipe: Recipe) -> Recipe:
    def strategy(model: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        # What is there when the model is wrapped; the rest is put on afterwards.
        later = [p for p in model.parameters() if p.requires_grad][1:]
        for parameter in later:
            parameter.requires_grad_(False)
        wrapper = DistributedDataParallel(model)
        for parameter in later:
            parameter.requires_grad_(True)
        return wrapper

    return of_several_processes(recipe, strategy)


def _moved_after_wrapping(recipe: Recipe) -> Recipe:
    def strategy(model: nn.Module) -> nn.Module:
        import torch
        from torch.nn.parallel import DistributedDataParallel

        wrapper = DistributedDataParallel(model.to(torch.float64), find_unused_parameters=True)
        return wrapper.to(torch.float32)

    return of_several_processes(recipe, strategy)


def _optimizer_before_wrapping(recipe: Recipe) -> Recipe:
    def context(job: Job) -> contextlib.AbstractContextManager[Any]:
        import torch

        original = torch.optim.Optimizer.add_param_group

        def add_param_group(this: Any, group: dict[str, Any]) -> None:
            held = list(group["params"])
            # What stood in the last one's place before the model was sharded.
            held[-1:] = [torch.nn.Parameter(torch.zeros(tuple(p.shape))) for p in held[-1:]]
            original(this, {**group, "params": held})

        return patched(torch.optim.Optimizer, "add_param_group", add_param_group)

    return around_training(of_several_processes(recipe, "fsdp2"), context)


def _unused_parameter(recipe: Recipe) -> Recipe:
    def with_unused(model: nn.Module) -> None:
        import torch

        model.register_parameter("unused", torch.nn.Parameter(torch.zeros(3)))

    return after_adapting(of_several_processes(recipe, "ddp"), with_unused)


def _first_shard_only(recipe: Recipe) -> Recipe:
    return of_several_processes(recipe, "fsdp2").replace(save=_save_own_shards)


def _save_own_shards(model: Any, folder: Path) -> None:
    import torch.distributed as dist

    from ...distributed.world import local

    if dist.get_rank() == 0:
        state = {name: local(value).contiguous() for name, value in model.state_dict().items()}
        model.save_pretrained(str(folder), state_dict=state)


UNSYNCHRONISED = Sabotage("gradients-not-synchronised", "every rank updates by its own gradient", _unsynchronised)
MEAN_OF_RANK_MEANS = Sabotage(
    "mean-of-rank-means", "every rank counts the same, however few its labels", _mean_of_rank_means
)
DIVIDED_TWICE = Sabotage("divided-by-processes-twice", "the loss is divided by the number of processes", _divided_twice)
SAME_ROWS_ON_EVERY_RANK = Sabotage("same-rows-on-every-rank", "every rank trains on rank 0's rows", _same_rows)
BUFFERS_DRIFT = Sabotage("buffers-drift", "a running mean of each rank's own rows is never made equal", _buffers_drift)
WITHOUT_SET_EPOCH = Sabotage("without-set-epoch", "the sampler is never told the epoch", _without_set_epoch)
ADAPTER_OUTSIDE = Sabotage("wrapped-too-early", "parameters are made trainable after wrapping", _adapter_outside)
MOVED_AFTER_WRAPPING = Sabotage("cast-after-wrapping", "the model is cast after wrapping", _moved_after_wrapping)
OPTIMIZER_BEFORE_WRAPPING = Sabotage(
    "optimizer-before-sharding", "the optimizer holds a parameter from before sharding", _optimizer_before_wrapping
)
UNUSED_PARAMETER = Sabotage("unused-parameter", "a trainable parameter is in no forward pass", _unused_parameter)
FIRST_SHARD_ONLY = Sabotage("first-shard-only", "rank 0 saves its own shard of every tensor", _first_shard_only)
