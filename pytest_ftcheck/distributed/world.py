"""Which process of how many this is, and where a model has its place among them. Importing this imports no torch."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..recipe import Job, Recipe

# What torchrun tells each of its processes, for one process alone.
ONE_PROCESS = {
    **dict.fromkeys(("RANK", "LOCAL_RANK", "GROUP_RANK"), "0"),
    **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1"),
}


@dataclass(frozen=True)
class World:
    """``rank`` is this process's number, from 0, among ``processes``. A collective that waits for longer than
    ``limit_s`` fails.
    """

    rank: int = 0
    processes: int = 1
    limit_s: float = 300.0

    def placed(self, model: nn.Module, recipe: Recipe, device: str) -> nn.Module:
        """``model`` on the device, and where the recipe has a strategy wrapped by it, in a process group."""
        model = model.to(device)
        if self.processes == 1 or recipe.strategy is None:
            return model
        from .strategy import start_group, wrapped

        start_group(device, self.limit_s)
        return wrapped(model, recipe.strategy, device)


ALONE = World()


def unwrapped(model: Any) -> Any:
    """The model within DistributedDataParallel, whose parameters have the names of a training of one process."""
    from torch.nn.parallel import DistributedDataParallel

    return model.module if isinstance(model, DistributedDataParallel) else model


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is spread over the ranks; any other tensor as it is. Without communication: a
    watcher that waited for the other ranks would hang where they differ.
    """
    part = getattr(tensor, "to_local", None)
    return tensor if part is None else part()


def in_parts(model: nn.Module) -> nn.Module:
    """``model``, in which each rank holds its own part of what is sharded: after a forward pass that no backward pass
    follows, an evaluation, FSDP2 leaves the outermost parameters whole. Without communication.
    """
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if callable(reshard) and hasattr(module, "unshard"):
            reshard()
    return model


@contextlib.contextmanager
def as_torchrun_starts_one(job: Job) -> Iterator[None]:
    """While it lasts, a training that distributes by itself finds what ``torchrun --nproc-per-node=1`` would give it,
    where it is trained in this process alone. The process group that it makes is gone at the end.
    """
    recipe = job.recipe
    if recipe.processes == 1 or recipe.strategy is not None or job.processes > 1 or "RANK" in os.environ:
        yield
        return
    import torch.distributed as dist

    given = {**ONE_PROCESS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
