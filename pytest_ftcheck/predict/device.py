"""The fake device: a device type of its own on which tensors have no contents.

A fake *CPU* would choose the CPU's kernels (dropout with a float mask, attention for the CPU), and a fake ``cuda``
aborts in a build of torch without CUDA. So the fake GPU is registered as torch's private backend, in Python, which can
be done once in a process: predictions run in a process of their own. A training is told that the device is ``cuda:0``,
because it and its libraries choose by that name what they do (see ``cuda.py`` and ``tensors.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ..errors import PredictionError
from ..observers.memory import tensors_in

FAKE_GPU = "fakegpu"
CUDA = torch.device("cuda", 0)
# CUDA's caching allocator hands out multiples of 512 bytes (c10/cuda/CUDACachingAllocator, kMinBlockSize).
GRANULARITY = 512


class Faking(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Knows whether it is at work: torch must then be told the device that a fake tensor has, and a training's own
    code at any other time the device that it stands for.
    """

    at_work = 0

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.at_work += 1
        try:
            return super().dispatch(func, types, args, kwargs or {})
        finally:
            self.at_work -= 1


class FakeDevice:
    """A device whose tensors are fake: ``"fakegpu"``, or ``"cpu"`` where torch has no private backend in Python.

    Tensors on the CPU stay real in a prediction for a GPU: what a training does to its data before it moves them to the
    device happens as it would. ``name`` is what torch calls the device, ``shown_as`` what the training does.
    """

    def __init__(self, type: str) -> None:
        if type == FAKE_GPU:
            _register()
        self.type = type
        self.name = f"{type}:0" if type == FAKE_GPU else type
        self.shown_as = str(CUDA) if type == FAKE_GPU else type
        self.granularity = GRANULARITY if type == FAKE_GPU else 1
        self.mode = Faking(allow_non_fake_inputs=True)

    def concerns(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether an operation has to do with this device: it has a fake operand, or makes a tensor there."""
        if self.type == FAKE_GPU and is_gpu(kwargs.get("device")):
            return True
        return any(isinstance(tensor, FakeTensor) for tensor in tensors_in((*args, *kwargs.values())))

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operation, as a fake tensor, on operands of which every real one is made fake.

        Raises NotImplementedError where an operand is of a class that is not torch's own. The mode is called without
        its being active, which would take each operation through torch's dispatcher once more.
        """
        args, kwargs = self.faked(args, kwargs)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": self.own(kwargs["device"])}
        result = self.mode.dispatch(func, (), args, kwargs)
        if result is NotImplemented:
            raise NotImplementedError("it has operands of a tensor class of its own")
        return result

    def faked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Operands of which every real one is made fake: always the same fake tensor in place of the same real one."""
        if all(isinstance(tensor, FakeTensor) for tensor in tensors_in((*args, *kwargs.values()))):
            return args, kwargs
        return tree_map(self._fake, (args, kwargs))  # type: ignore[no-any-return]

    def carrying_out(self) -> TorchDispatchMode:
        """A context in which operations that concern this device are carried out, and nothing is logged."""
        return _CarryingOut(self)

    def unpinned(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of an operation on the CPU without the page-locked memory that there is for a real GPU."""
        return {**kwargs, "pin_memory": False} if self.type == FAKE_GPU and kwargs.get("pin_memory") else kwargs

    def own(self, device: Any) -> Any:
        """What torch has to be told where a training says ``device``. Raises PredictionError for a second GPU."""
        if self.type != FAKE_GPU or not is_gpu(device):
            return device
        if torch.device(device).index not in (None, 0):
            raise PredictionError(f"the training uses {device}, and a prediction is for one GPU, which is {CUDA}")
        return torch.device(self.name)

    def empty(self, like: Tensor) -> Tensor:
        """A fake tensor here, of the shape and dtype of ``like``."""
        with self.mode:
            return torch.empty(like.shape, dtype=like.dtype, device=self.name)

    def _fake(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor):
            return self.mode.from_tensor(leaf, static_shapes=True)
        return leaf


class _CarryingOut(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, device: FakeDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.device.concerns(args, kwargs):
            return self.device.carry_out(func, args, kwargs)
        return func(*args, **self.device.unpinned(kwargs))


def is_gpu(device: Any) -> bool:
    """Whether ``device`` (as torch takes it: a name, a number, a ``torch.device``, or None) means a GPU."""
    return device is not None and torch.device(device).type in (CUDA.type, FAKE_GPU)


def has_private_backend() -> bool:
    """Whether this torch can have a device written in Python (an experimental interface, since 2.9)."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class _Backend:
    """What torch asks of the module of a device (``torch.fakegpu``)."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """There are no random numbers to draw."""

    def get_rng_state(self, device: Any = 0) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = 0) -> None:
        """There is no state."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: Any = 0) -> None:
        """Nothing is ever under way."""


def _register() -> None:
    if getattr(torch, FAKE_GPU, None) is None:
        setup: Any = backend_registration._setup_privateuseone_for_python_backend
        setup(FAKE_GPU, backend_module=_Backend())
