"""Memory as the bytes of live tensors, on any device, by what they are for; and the operations that were done.

A dispatch mode sees every tensor that an operation returns; a finalizer on its storage sees it go. What a storage was
for is known only later (an allocation of the backward pass becomes a gradient, one of the first step optimizer state),
so allocations are logged and divided into categories at the end. Temporaries within a kernel are not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..distributed.world import local
from ..run import Breakdown, Memory
from .events import Watcher
from .flops import flops_of

if TYPE_CHECKING:
    import torch
    from torch import nn

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "temporaries")


@dataclass(frozen=True)
class Event:
    """``bytes`` of the storage with number ``storage`` came to life (or, negative, went) in ``phase`` of an update."""

    storage: int
    bytes: int
    phase: str
    update: int


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Logs the life of every storage on one device type while it is active, and counts floating-point operations.

    ``granularity``: sizes are rounded up to a multiple of so many bytes, as an allocator does.
    """

    def __init__(self, device_type: str, granularity: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device_type = device_type
        self.granularity = granularity
        self.phase, self.update = "data", 0
        self.events: list[Event] = []
        self.category: dict[int, str] = {}
        # (update, phase) -> floating-point operations
        self.flops: Counter[tuple[int, str]] = Counter()
        self._number: dict[int, int] = {}
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.account(func, args, kwargs or {}, result)
        return result

    def account(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Log what an operation that has just been done brought to life, and count it."""
        flops = flops_of(func, args, kwargs, result)
        if flops:
            self.flops[self.update, self.phase] += flops
        # A view of a tensor that is older than the log (a row of the data set, say) allocates nothing.
        new = [tensor for tensor in tensors_in((result,)) if self._is_unknown(tensor)]
        older = {id(tensor.untyped_storage()) for tensor in tensors_in((*args, *kwargs.values()))} if new else set()
        for tensor in new:
            if id(tensor.untyped_storage()) not in older:
                self.register(tensor)

    def register(self, tensor: Tensor) -> int | None:
        """The number of the tensor's storage, which counts as live from now on; None on another device."""
        tensor = local(tensor)
        if tensor.device.type != self.device_type:
            return None
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._number:
            self._count += 1
            self._number[key] = self._count
            size = -(-storage.nbytes() // self.granularity) * self.granularity
            self.events.append(Event(self._count, size, self.phase, self.update))
            weakref.finalize(storage, self._gone, key, self._count, size).atexit = False
        return self._number[key]

    def label(self, tensors: Iterator[Tensor], category: str) -> None:
        """Say what these tensors are for; the first label of a storage stays."""
        for tensor in tensors:
            number = self.register(tensor)
            if number is not None:
                self.category.setdefault(number, category)

    def live(self) -> set[int]:
        """The numbers of the storages that are live now."""
        return set(self._number.values())

    def _is_unknown(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device_type and id(tensor.untyped_storage()) not in self._number

    def _gone(self, key: int, number: int, size: int) -> None:
        self._number.pop(key, None)
        self.events.append(Event(number, -size, self.phase, self.update))


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among an operation's arguments or results, which are there themselves or in lists.

    Every operation of a training goes through here, several times; torch's own tree functions take ten times as long.
    """
    found = []
    for value in values:
        if isinstance(value, Tensor):
            # Of a tensor that is spread over the ranks, this rank's part is what it holds.
            found.append(value if type(value) is Tensor else local(value))
        elif isinstance(value, (list, tuple)):
            found.extend(tensors_in(value))
    return found


class MemoryWatch(Watcher):
    """Tells the log which phase an update is in, and what its tensors are for."""

    def __init__(self, log: LiveBytes) -> None:
        self.log = log
        self._model: nn.Module | None = None
        self._optimizers: list[torch.optim.Optimizer] = []
        # How many events the last backward pass found.
        self._found = 0

    def attached(self, model: nn.Module) -> None:
        self._model = model
        self._label_weights()

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.log.phase = "forward"

    def backward_begins(self, loss: Tensor) -> None:
        # With accumulation, what is older has its label from the backward pass before.
        new = self.log.events[self._found :]
        self._found += len(new)
        born_in_forward = {e.storage for e in new if e.bytes > 0 and e.phase == "forward"}
        for number in self.log.live() & born_in_forward:
            self.log.category.setdefault(number, "activations")
        self.log.phase = "backward"

    def backward_ends(self) -> None:
        self._label_gradients()

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)

    def update_begins(self, optimizer: torch.optim.Optimizer) -> None:
        # Again: a training may have cast or wrapped the model since, and clipping may have replaced gradients.
        self._label_weights()
        self._label_gradients()
        self.log.phase = "optimizer"

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        for one in self._optimizers:
            states = (value for state in one.state.values() for value in state.values())
            self.log.label((value for value in states if isinstance(value, Tensor)), "optimizer")
        self.log.phase = "data"
        self.log.update += 1

    def _label_weights(self) -> None:
        assert self._model is not None
        self.log.label(iter([*self._model.parameters(), *self._model.buffers()]), "weights")

    def _label_gradients(self) -> None:
        assert self._model is not None
        self.log.label((p.grad for p in self._model.parameters() if p.grad is not None), "gradients")


def summarize(log: LiveBytes) -> Memory:
    """Peaks and maxima over the updates after the first, by when the optimizer's state exists."""
    first = 1 if log.update > 1 else 0
    live = dict.fromkeys(CATEGORIES, 0)
    highest = dict.fromkeys(CATEGORIES, 0)
    peak, phase, at_peak = 0, "data", Breakdown()
    for event in log.events:
        live[log.category.get(event.storage, "temporaries")] += event.bytes
        # What lies after the last update (a trainer that saves, say) is no part of a training step.
        if not first <= event.update < max(log.update, 1):
            continue
        for category in CATEGORIES:
            highest[category] = max(highest[category], live[category])
        if sum(live.values()) > peak:
            peak, phase, at_peak = sum(live.values()), event.phase, Breakdown(**live)
    return Memory(
        peak_bytes=peak,
        weights_bytes=highest["weights"],
        gradients_bytes=highest["gradients"],
        optimizer_bytes=highest["optimizer"],
        activations_bytes=highest["activations"],
        peak_phase=phase,
        at_peak=at_peak,
    )
