"""The dispatch mode that carries a training out on the fake device, and logs what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import PredictionError
from ..failures import one_line
from ..observers.memory import Event, LiveBytes
from .device import FakeDevice
from .gpu import Gpu
from .journal import Journal
from .kernels import inner_bytes
from .modules import ModuleWatch
from .roofline import seconds
from .values import READS, Values


@dataclass(frozen=True)
class Origin:
    """The operation that brought a storage to life, the module it was done for, and the dtype of its tensor."""

    op: str
    module: str
    dtype: str


class Timeline(LiveBytes):  # type: ignore[no-untyped-call]
    """Runs operations on fake tensors; logs the life of their storages, floating-point operations and a least time."""

    def __init__(self, device: FakeDevice, gpu: Gpu, modules: ModuleWatch, journal: Journal) -> None:
        super().__init__(device.type, device.granularity)
        self.device, self.gpu, self.modules, self.journal = device, gpu, modules, journal
        self.values = Values()
        self.origin: dict[int, Origin] = {}
        self.operations = 0
        # update -> seconds that its operations take at least, one after the other
        self.seconds: dict[int, float] = {}
        self._op = "outside"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.device.concerns(args, kwargs):
            return func(*args, **kwargs)
        name = func._schema.name
        if name in READS:
            return self.values.read(func, args)
        self.operations += 1
        self._op = name
        self.journal.note(f"{name} in {self.modules.current() or 'the training step'} ({self.phase})")
        result = self._carried_out(func, args, kwargs)
        self.values.propagate(func, args, kwargs, result)
        self._inner(name, args, kwargs)
        self.account(func, args, kwargs, result)
        self.seconds[self.update] = self.seconds.get(self.update, 0.0) + seconds(func, args, kwargs, result, self.gpu)
        self._op = "outside"
        return self.values.arrived(func, args, result)

    def register(self, tensor: Tensor) -> int | None:
        number = super().register(tensor)
        if number is not None and number not in self.origin:
            self.origin[number] = Origin(self._op, self.modules.current(), str(tensor.dtype).removeprefix("torch."))
        return number

    def _carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        fake_args, fake_kwargs = self.device.faked((args, kwargs))
        try:
            with self.device.mode:
                return func(*fake_args, **fake_kwargs)
        except PredictionError:
            raise
        except (torch._subclasses.fake_tensor.UnsupportedFakeTensorException, NotImplementedError) as error:
            raise PredictionError(_unsupported(func, self.modules.current(), error)) from error

    def _inner(self, name: str, args: Any, kwargs: Any) -> None:
        """Memory that a kernel takes for itself: there while the operation lasts."""
        size = inner_bytes(name, args, kwargs, self.gpu) if self.device.granularity > 1 else 0
        if size:
            self._count += 1
            rounded = -(-size // self.granularity) * self.granularity
            self.origin[self._count] = Origin(name, self.modules.current(), "workspace")
            self.events.append(Event(self._count, rounded, self.phase, self.update))
            self.events.append(Event(self._count, -rounded, self.phase, self.update))


def _unsupported(func: Any, module: str, error: BaseException) -> str:
    return (
        f"{func._schema.name}, in {module or 'the training step'}, has no implementation for tensors without contents "
        f"({one_line(error)})\n"
        "  what to do: give a custom operation one with torch.library.register_fake; one whose result's shape depends "
        "on values (nonzero, a boolean index) needs those values on the CPU"
    )
