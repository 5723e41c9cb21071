"""What a short training holds on to from one update to the next: bytes, and autograd graphs.

Memory that a loop forgets to let go is told from what it needs by its age: at the end of the last update, something of
nearly every earlier update is still there. Caches that are filled once, optimizer state, averages of the weights and
the batch of the moment leave no such trail.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..building import build_job
from ..deadline import deadline
from ..execution import train_job
from ..isolation import preserved_settings
from ..observers.events import Events, Watcher
from ..scratch import prefix
from .training import AUDIT_STEPS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .evidence import Evidence

# Three updates make the first epoch of a short training: what is kept of them may be a cache of its rows. What is left
# of the last two may be the batch of the moment and the one before it.
FIRST_EPOCH, RECENT = 3, 2


@dataclass(frozen=True)
class Footprint:
    """``kept_bytes``: for each update (from 0), the bytes that were allocated in it and are still held at the end of
    the last one, weights, gradients and optimizer state left out. ``kept_graphs``: likewise, the forward passes whose
    graphs are still held. ``input_bytes``: those of the smallest batch of each update.
    """

    kept_bytes: tuple[int, ...]
    kept_graphs: tuple[int, ...]
    input_bytes: tuple[int, ...]

    @property
    def old(self) -> range:
        """The updates of which nothing should be left."""
        return range(FIRST_EPOCH, len(self.kept_bytes) - RECENT)


class Retention(Watcher):
    """Notes in which update each storage and each graph began, and which are still there after the last one."""

    def __init__(self) -> None:
        self._updates = 0
        self._storages: dict[int, tuple[Any, int, int]] = {}
        self._graphs: list[tuple[int, weakref.ref[Any]]] = []
        self._inputs: dict[int, int] = {}
        self._kept: Counter[int] = Counter()
        self._kept_graphs: Counter[int] = Counter()
        self._model: nn.Module | None = None
        self._optimizers: list[torch.optim.Optimizer] = []

    def note(self, tensor: Tensor) -> None:
        """An operation returned ``tensor``."""
        storage = tensor.untyped_storage()
        # A weak reference keeps the address (and not the bytes) from being used again.
        if storage._cdata not in self._storages:
            self._storages[storage._cdata] = (_weakly(storage), self._updates, storage.nbytes())

    def attached(self, model: nn.Module) -> None:
        self._model = model

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size = sum(t.numel() * t.element_size() for t in _tensors((args, kwargs)))
        self._inputs[self._updates] = min(size, self._inputs.get(self._updates, size))

    def forward_ends(self, output: Any) -> None:
        nodes = [tensor.grad_fn for tensor in _tensors(output) if tensor.grad_fn is not None]
        if not nodes:
            return
        # What is hung onto the nodes of a graph lives exactly as long as the last of them.
        marker = _Marker()
        for node in nodes:
            node.metadata["ftcheck"] = marker  # type: ignore[index]
        self._graphs.append((self._updates, weakref.ref(marker)))

    def optimizer_steps(self, optimizer: torch.optim.Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)

    def update_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._updates += 1
        if self._updates < AUDIT_STEPS:
            return
        static = {tensor.untyped_storage()._cdata for tensor in self._static()}
        self._kept.clear()
        for address, (storage, update, size) in self._storages.items():
            if address not in static and not storage.expired():
                self._kept[update] += size
        self._kept_graphs = Counter(update for update, graph in self._graphs if graph() is not None)

    def _static(self) -> Iterator[Tensor]:
        """What is held whatever the batches are."""
        assert self._model is not None
        for parameter in self._model.parameters():
            yield from _tensors((parameter, parameter.grad))
        yield from self._model.buffers()
        for optimizer in self._optimizers:
            yield from _tensors(dict(optimizer.state))

    def footprint(self) -> Footprint:
        updates = range(self._updates)
        return Footprint(
            kept_bytes=tuple(self._kept[update] for update in updates),
            kept_graphs=tuple(self._kept_graphs[update] for update in updates),
            input_bytes=tuple(self._inputs.get(update, 0) for update in updates),
        )


def _weakly(storage: torch.UntypedStorage) -> Any:
    from torch.multiprocessing.reductions import StorageWeakRef

    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


class _Marker:
    """Something to hang onto a node; plain objects have no weak references."""


def footprint(evidence: Evidence, evaluating: bool = False) -> Footprint:
    """The footprint of a short training; ``evaluating``: with an evaluation after every update, where the loop knows
    how. Raises TrainingError where it fails.
    """
    return evidence.once(("footprint", evaluating), lambda: _carry_out(evidence, evaluating))


def _carry_out(evidence: Evidence, evaluating: bool) -> Footprint:
    assert evidence.standard  # where no training runs at all, the standard one says so
    recipe, method = evidence.short_recipe, evidence.method_name
    kept = Retention()
    with (
        tempfile.TemporaryDirectory(prefix=prefix()) as folder,
        preserved_settings(recipe.threads),
        deadline(evidence.time_limit_s, f"{method}: train(job) of {AUDIT_STEPS} updates"),
    ):
        job, _ = build_job(recipe, method, evidence.seed, AUDIT_STEPS, evidence.device, Path(folder))
        job.eval_steps = 1 if evaluating else None
        with Events([kept]).listening() as events, _every_result(kept):
            train_job(job, method, events, lambda: 0)
        return kept.footprint()


def _every_result(kept: Retention) -> Any:
    """While it lasts, every tensor that an operation returns is noted: by less than ``LiveBytes``, which also says what
    each is for and takes twice as long.
    """
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    class Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for one in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(one, Tensor):
                    kept.note(one)
            return result

    return Noting()  # type: ignore[no-untyped-call]


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested values."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
