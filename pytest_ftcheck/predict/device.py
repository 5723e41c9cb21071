"""The fake device: a device type of its own on which tensors have no contents.

A fake *CPU* would choose the CPU's kernels (dropout with a float mask, attention for the CPU), and a fake ``cuda``
aborts in a build of torch without CUDA. So the fake GPU is registered as torch's private backend, in Python, which can
be done once in a process: predictions run in a process of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

FAKE_GPU = "fakegpu"
# CUDA's caching allocator hands out multiples of 512 bytes (c10/cuda/CUDACachingAllocator, kMinBlockSize).
GRANULARITY = 512


class FakeDevice:
    """A device whose tensors are fake: ``"fakegpu"``, or ``"cpu"`` where torch has no private backend in Python.

    Tensors on the CPU stay real in a prediction for a GPU: what a training does to its data before it moves them to the
    device happens as it would.
    """

    def __init__(self, type: str) -> None:
        if type == FAKE_GPU:
            _register()
        self.type = type
        self.name = f"{type}:0" if type == FAKE_GPU else type
        self.granularity = GRANULARITY if type == FAKE_GPU else 1
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def concerns(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether an operation has to do with this device: it has a fake operand, or makes a tensor there."""
        wanted = kwargs.get("device")
        if wanted is not None and self.type == FAKE_GPU and torch.device(wanted).type == FAKE_GPU:
            return True
        return any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs)))

    def faked(self, arguments: Any) -> Any:
        """The arguments of an operation with every real tensor in them replaced by a fake one."""
        return tree_map(self._fake, arguments)

    def empty(self, like: Tensor) -> Tensor:
        """A fake tensor here, of the shape and dtype of ``like``."""
        with self.mode:
            return torch.empty(like.shape, dtype=like.dtype, device=self.name)

    def _fake(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor):
            return self.mode.from_tensor(leaf, static_shapes=True)
        return leaf


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
