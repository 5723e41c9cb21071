"""All that a training must find again to go on as if nothing had happened, as digests."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..codec import Record
from ..observers.batches import BatchWatch
from ..observers.parameters import digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Moment(Record):
    """The state in which an update begins. ``rows`` and ``generators`` (torch's, of the CPU and of the model's device)
    are those of its first forward pass; weights have their buffers with them.
    """

    weights: str
    optimizer: str
    rates: str
    generators: str
    rows: str

    def different(self, other: Moment) -> list[str]:
        """The names of what is not the same in both."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(other, f.name)]


@dataclass(frozen=True)
class Start:
    """What is seen of a moment when the update's first forward pass begins: the rest is seen before the optimizer steps
    (not before is it known which one does).
    """

    generators: str
    rows: str

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Start:
        inputs = BatchWatch()
        inputs.forward_begins(args, kwargs)
        return cls(_of_tensors(enumerate(_generators(model))), inputs.digest())

    def completed(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Moment:
        """The whole of it, when ``optimizer`` is about to step."""
        # By the parameter's place: the state itself is in the order in which it came to be.
        held = [p for group in optimizer.param_groups for p in group["params"]]
        states = (sorted(optimizer.state.get(p, {}).items()) for p in held)
        entries = ((f"{i}.{key}", value) for i, state in enumerate(states) for key, value in state)
        rates = [group.get("lr") for group in optimizer.param_groups]
        return Moment(
            weights=_of_tensors(model.state_dict().items()),
            optimizer=_of_tensors(entries),
            rates=repr([None if rate is None else float(rate) for rate in rates]),
            generators=self.generators,
            rows=self.rows,
        )


def _generators(model: nn.Module) -> list[Tensor]:
    import torch

    devices = {p.device for p in model.parameters() if p.is_cuda}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in sorted(devices, key=str))]


def _of_tensors(named: Iterable[tuple[object, Any]]) -> str:
    import torch

    total = hashlib.blake2b(digest_size=16)
    for name, value in named:
        total.update(f"{name}={digest(value) if isinstance(value, torch.Tensor) else value!r};".encode())
    return total.hexdigest()
