"""Which attention kernel torch would choose on a GPU.

The rules are those of torch 2.11 to 2.13 in their CUDA builds (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp and
sdp_utils_cpp.h): kernels are tried in an order, and the first that takes the arguments is it. Read from the source, and
not tried on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .gpu import Gpu

HALF = (torch.float16, torch.bfloat16)
# torch's order. cuDNN is asked first where it is new enough (9.15.1) and the GPU is a Hopper, or a Blackwell of a data
# centre. Packages of torch 2.11 and later have such a cuDNN (9.19) where they are for CUDA 13, as those of PyPI are;
# those for CUDA 12 have an older one.
ORDER = ("flash", "efficient", "math", "cudnn")
CUDNN_FIRST = ("cudnn", "flash", "efficient", "math")
PREFERS_CUDNN = ((9, 0), (10, 0), (10, 3))
NEW_CUDNN = 91501
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


@dataclass(frozen=True)
class Call:
    """What ``scaled_dot_product_attention`` was called with; tensors are (batch, heads, tokens, head size).

    ``grouped``: several heads of the query may share one of key and value.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    dropout: float = 0.0
    causal: bool = False
    scale: float | None = None
    grouped: bool = False

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value

    @property
    def differentiates(self) -> bool:
        """Whether there will be a backward pass through it."""
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self.tensors)

    @property
    def heads(self) -> tuple[int, int, int]:
        return self.query.shape[1], self.key.shape[1], self.value.shape[1]

    @property
    def head_sizes(self) -> tuple[int, int, int]:
        return self.query.shape[-1], self.key.shape[-1], self.value.shape[-1]


def chosen_kernel(gpu: Gpu, call: Call) -> str:
    """``"cudnn"``, ``"flash"``, ``"efficient"`` or ``"math"``. Raises RuntimeError, as torch does, where those that the
    program has left enabled cannot do it.
    """
    for kernel in order(gpu):
        enabled, takes = KERNELS[kernel]
        if enabled() and takes(gpu, call):
            return kernel
    raise RuntimeError("No available kernel. Aborting execution.")


def order(gpu: Gpu) -> tuple[str, ...]:
    """The kernels in the order in which torch tries them on ``gpu``."""
    deprioritized = os.environ.get("TORCH_CUDNN_SDPA_DEPRIORITIZED") == "1"
    return CUDNN_FIRST if gpu.capability in PREFERS_CUDNN and has_new_cudnn() and not deprioritized else ORDER


def has_new_cudnn() -> bool:
    """Whether cuDNN is one that torch asks first: the one that is there, or that torch from PyPI would bring."""
    installed = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return installed >= NEW_CUDNN if installed is not None else VERSION >= (2, 11)


def _fused(call: Call, grouping: bool) -> bool:
    """What every kernel but the plain one demands. ``grouping``: it can share heads of key and value."""
    if any(tensor.dim() != 4 or 0 in tensor.shape or tensor.stride(-1) != 1 for tensor in call.tensors):
        return False
    if len({tensor.shape[0] for tensor in call.tensors}) != 1 or len({tensor.dtype for tensor in call.tensors}) != 1:
        return False
    query, key, value = call.heads
    if grouping and call.grouped:
        return query % key == 0 and query % value == 0
    return query == key == value


def _is_half(gpu: Gpu, call: Call) -> bool:
    return call.query.dtype in (HALF if gpu.capability >= (8, 0) else (torch.float16,))


def _takes_cudnn(gpu: Gpu, call: Call) -> bool:
    if not (gpu.capability >= (8, 0) and _fused(call, grouping=True) and _is_half(gpu, call) and _takes_mask(call)):
        return False
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        return False
    # Since torch 2.12 (pull request 174245): its kernels know dropout in sixteenths only.
    if VERSION >= (2, 12) and (call.dropout * 16) % 1:
        return False
    size, _, value_size = call.head_sizes
    limit = 256 if gpu.capability == (9, 0) else 128
    tokens, keys = call.query.shape[2], call.key.shape[2]
    fits = max(size, value_size) <= limit and size % 8 == value_size % 8 == 0
    return fits and keys > 1 and not (call.dropout and tokens == 1)


def _takes_mask(call: Call) -> bool:
    """Whether the mask, if any, is one that cuDNN can broadcast."""
    if call.mask is None:
        return True
    wanted = call.query.shape[0], call.query.shape[1], call.query.shape[2], call.key.shape[2]
    if call.mask.requires_grad or call.mask.dim() not in (2, 4):
        return False
    pairs = zip(reversed(call.mask.shape), reversed(wanted), strict=False)
    return all(have in (1, want) for have, want in pairs)


def _takes_flash(gpu: Gpu, call: Call) -> bool:
    if not (gpu.capability >= (8, 0) and _fused(call, grouping=True) and _is_half(gpu, call) and call.mask is None):
        return False
    size = call.head_sizes[0]
    if len(set(call.head_sizes)) != 1 or size > 256 or (call.causal and call.query.shape[2] != call.key.shape[2]):
        return False
    # Too little shared memory for the backward kernel of large heads: Ada, small Ampere, small Blackwell.
    small = (8, 6) <= gpu.capability <= (8, 9) or (12, 0) <= gpu.capability <= (12, 1)
    return not (small and call.differentiates and (192 < size <= 224 or (size > 224 and call.dropout > 0)))


def _takes_efficient(gpu: Gpu, call: Call) -> bool:
    # Grouped heads since torch 2.14 only (pull request 191085).
    if not _fused(call, grouping=VERSION >= (2, 14)):
        return False
    half = call.query.dtype in HALF
    if not (_is_half(gpu, call) or call.query.dtype == torch.float32):
        return False
    # Tensor cores read 128 bits at a time; a Turing has none for float32.
    alignment = 8 if half else 4 if gpu.capability >= (8, 0) else 1
    size, key_size, value_size = call.head_sizes
    return size == key_size and size % alignment == value_size % alignment == 0


# Kernel -> whether the program has left it enabled, and whether it takes a call.
KERNELS: dict[str, tuple[Callable[[], bool], Callable[[Gpu, Call], bool]]] = {
    "cudnn": (torch.backends.cuda.cudnn_sdp_enabled, _takes_cudnn),
    "flash": (torch.backends.cuda.flash_sdp_enabled, _takes_flash),
    "efficient": (torch.backends.cuda.mem_efficient_sdp_enabled, _takes_efficient),
    "math": (torch.backends.cuda.math_sdp_enabled, lambda gpu, call: True),
}
