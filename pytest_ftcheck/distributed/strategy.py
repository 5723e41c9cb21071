"""What spreads a model over the processes: DistributedDataParallel, FSDP2, or a function of the user's."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Strategy = str | Callable[["nn.Module"], "nn.Module"]
STRATEGIES = ("ddp", "fsdp2")


def start_group(device: str, limit_s: float) -> None:
    """Join the process group of the ranks that torch elastic started: NCCL on GPUs, gloo elsewhere."""
    import torch
    import torch.distributed as dist

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(seconds=limit_s))


def wrapped(model: nn.Module, strategy: Strategy, device: str) -> nn.Module:
    """``model``, on ``device``, as ``strategy`` spreads it. DistributedDataParallel expects that every trainable
    parameter is used in every update; FSDP2 shards each block of a ``ModuleList`` by itself, and then the rest.
    """
    if callable(strategy):
        return strategy(model)
    if strategy == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model, device_ids=[device] if device.startswith("cuda") else None)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Without a mesh it would take the machine's accelerator, also where the training is on the CPU.
    mesh = init_device_mesh(device.partition(":")[0], (_processes(),))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)  # type: ignore[return-value]


def name_of(strategy: Strategy | None) -> str:
    """What a strategy is called in reports."""
    return "own" if strategy is None else strategy if isinstance(strategy, str) else "a function"


def _processes() -> int:
    import torch.distributed as dist

    return dist.get_world_size()


def _blocks(module: Any) -> Iterator[nn.Module]:
    """The layers of the outermost ``ModuleList``s."""
    from torch import nn

    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)
