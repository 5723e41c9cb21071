"""The dispatch mode that carries a training out on the fake device, and logs what it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..observers.memory import Event, LiveBytes
from .accumulation import SUM_IN_PLACE, Accumulation
from .device import CUDA, FAKE_GPU, FakeDevice
from .gpu import Gpu
from .journal import Journal
from .kernels import inner_bytes
from .modules import ModuleWatch
from .roofline import seconds
from .shapes import shaped_by_values
from .unsupported import unsupported
from .values import READS, Values

# No operation, but two in three calls: autograd asks each tensor where it is.
ASKS_FOR_DEVICE = torch.ops.prim.device.default
# The operations for which CUDA's kernels ask cuBLAS.
MATRIX_PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "_scaled_mm")}
# What torch says of fake operands on the CPU and on the GPU: before 2.13, and since.
TWO_DEVICES = re.compile(r"found (?:two different|at least two) devices,? (?P<one>[\w:]+)(?:,| and) (?P<other>[\w:]+)")
# What an operation raises that needs the contents of its operands, or has no implementation for fake ones.
NOT_WITHOUT_CONTENTS = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
    NotImplementedError,
)


@dataclass(frozen=True)
class Origin:
    """The operation that brought a storage to life, the module it was done for, and the dtype of its tensor."""

    op: str
    module: str
    dtype: str


class Timeline(LiveBytes):  # type: ignore[no-untyped-call]
    """Runs operations on fake tensors; logs the life of their storages, floating-point operations and a least time."""

    def __init__(self, device: FakeDevice, gpu: Gpu, modules: ModuleWatch, journal: Journal) -> None:
        super().__init__(torch.device(device.shown_as).type, device.granularity)
        self.device, self.gpu, self.modules, self.journal = device, gpu, modules, journal
        self.values = Values(device, modules)
        self.origin: dict[int, Origin] = {}
        self.operations = 0
        # update -> seconds that its operations take at least, one after the other
        self.seconds: dict[int, float] = {}
        # Thread of autograd -> how many events there were when cuBLAS got its handle, which is one for each thread.
        self._handles: dict[bool, int] = {}
        self._op = "outside"
        # Which sums a real engine makes in place; counted out where a training is carried out (prepare_process).
        self.accumulation: Accumulation | None = None

    @property
    def handles_at(self) -> tuple[int, ...]:
        """Before which events cuBLAS got a handle, and allocated its workspace."""
        return tuple(self._handles.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is ASKS_FOR_DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        if not self.device.concerns(args, kwargs):
            if self.device_type == "cpu":
                # A prediction for the CPU has the batch, which is real, on the same device.
                return super().__torch_dispatch__(func, types, args, kwargs)
            return func(*args, **self.device.unpinned(kwargs))
        if self.accumulation is not None and self.accumulation.is_in_place(func, args):
            func = SUM_IN_PLACE
        name = func._schema.name
        if name in READS:
            return self.values.read(func, args)
        self.operations += 1
        self._op = name
        self.journal.note(f"{name} in {self.modules.current() or 'the training step'} ({self.phase})")
        result = self._carried_out(func, args, kwargs)
        self.values.propagate(func, args, kwargs, result)
        # A result may be a real operand that was written to (``out=``): it is there already.
        self.account(func, *self.device.faked(args, kwargs), result)
        # After the results, which are there while the kernel works.
        self._inner(name, args, kwargs)
        if name in MATRIX_PRODUCTS:
            self._handles.setdefault(self.phase == "backward", len(self.events))
        self.seconds[self.update] = self.seconds.get(self.update, 0.0) + seconds(func, args, kwargs, result, self.gpu)
        self._op = "outside"
        return self.values.arrived(func, args, kwargs, result)

    def register(self, tensor: Tensor) -> int | None:
        number = super().register(tensor)
        if number is not None and number not in self.origin:
            self.origin[number] = Origin(self._op, self.modules.current(), str(tensor.dtype).removeprefix("torch."))
        return number

    def _carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            return self.device.carry_out(func, args, kwargs)
        except NOT_WITHOUT_CONTENTS as error:
            result = shaped_by_values(self.device, self.values, func, args, kwargs)
            if result is None:
                raise unsupported(func, self.modules.current(), error) from error
            return result
        except RuntimeError as error:
            mistake = TWO_DEVICES.search(str(error))
            if mistake is not None:
                raise _of_two_devices(mistake["one"], mistake["other"]) from None
            if func.namespace != "aten" and "fake impl" in str(error):
                raise unsupported(func, self.modules.current(), error) from error
            raise

    def _inner(self, name: str, args: Any, kwargs: Any) -> None:
        """Memory that a kernel takes for itself: there while the operation lasts."""
        size = inner_bytes(name, args, kwargs, self.gpu) if self.device.granularity > 1 else 0
        if size:
            self._count += 1
            rounded = -(-size // self.granularity) * self.granularity
            self.origin[self._count] = Origin(name, self.modules.current(), "workspace")
            self.events.append(Event(self._count, rounded, self.phase, self.update))
            self.events.append(Event(self._count, -rounded, self.phase, self.update))


def _of_two_devices(one: str, other: str) -> RuntimeError:
    """A mistake of the training's own, in the words of a real run."""
    devices = f"{one} and {other}".replace(FAKE_GPU, CUDA.type)
    return RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {devices}!")
