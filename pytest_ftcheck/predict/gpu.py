"""What a prediction has to know of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from ..errors import RecipeError

GB, GIB, MIB = 10**9, 2**30, 2**20


@dataclass(frozen=True)
class Gpu(Record):
    """A GPU as a training step sees it.

    ``memory_bytes``: what ``torch.cuda.mem_get_info`` gives as the total. ``capability``: CUDA's compute capability.
    ``flops_per_s``: dense peak by dtype. ``bandwidth_bytes_per_s``: of its memory. ``workspace_bytes``: what cuBLAS
    takes for a handle. ``context_bytes``: what CUDA holds beside torch's allocator.
    """

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    flops_per_s: dict[str, float]
    bandwidth_bytes_per_s: float
    workspace_bytes: int
    context_bytes: int


# torch's defaults of CUBLAS_WORKSPACE_CONFIG (aten/src/ATen/cuda/CublasHandlePool.cpp): :4096:2:16:8, and 32 MiB on
# compute capability 9.0.
WORKSPACE, HOPPER_WORKSPACE = 8_519_680, 32 * MIB
CONTEXT = 500 * MIB


def _rates(float32: float, bfloat16: float | None, float16: float) -> dict[str, float]:
    return {"float32": float32, "float16": float16, **({"bfloat16": bfloat16} if bfloat16 else {})}


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h200", 141 * GB, (9, 0), _rates(67e12, 989e12, 989e12), 4.8e12, HOPPER_WORKSPACE, CONTEXT),
        Gpu("h100", 80 * GIB, (9, 0), _rates(67e12, 989e12, 989e12), 3.35e12, HOPPER_WORKSPACE, CONTEXT),
        Gpu("a100", 80 * GIB, (8, 0), _rates(19.5e12, 312e12, 312e12), 2.039e12, WORKSPACE, CONTEXT),
        Gpu("l40s", 48 * GB, (8, 9), _rates(91.6e12, 362e12, 362e12), 0.864e12, WORKSPACE, CONTEXT),
        Gpu("t4", 16 * GB, (7, 5), _rates(8.1e12, None, 65e12), 0.32e12, WORKSPACE, CONTEXT),
        Gpu("rtx4090", 24 * GB, (8, 9), _rates(82.6e12, 165e12, 165e12), 1.008e12, WORKSPACE, CONTEXT),
    )
}


def gpu_called(name: str | Gpu) -> Gpu:
    """The profile called ``name``. Raises RecipeError, with the names there are, for another one."""
    if isinstance(name, Gpu):
        return name
    if name not in GPUS:
        raise RecipeError(f"gpu is {name!r}; allowed: {', '.join(GPUS)}, or a Gpu(...)")
    return GPUS[name]
