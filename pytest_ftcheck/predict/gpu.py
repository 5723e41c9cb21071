"""What a prediction has to know of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from ..errors import RecipeError

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Gpu(Record):
    """A GPU as a training step sees it.

    ``memory_bytes``: what ``torch.cuda.mem_get_info`` gives as the total. ``capability``: CUDA's compute capability.
    ``flops_per_s``: dense peak by dtype. ``bandwidth_bytes_per_s``: of its memory. ``workspace_bytes``: what cuBLAS
    takes for a handle, of which a training has two: one in the thread of the forward pass, one in autograd's.
    ``context_bytes``: what CUDA holds beside torch's allocator. ``multiprocessors``: how many it has.
    """

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    flops_per_s: dict[str, float]
    bandwidth_bytes_per_s: float
    workspace_bytes: int
    context_bytes: int
    multiprocessors: int = 108

    @property
    def emulates_bfloat16(self) -> bool:
        """Whether bfloat16 is there without the hardware for it (before compute capability 8.0): slow, and without
        flash or memory-efficient attention.
        """
        return self.capability < (8, 0)


# Defaults of CUBLAS_WORKSPACE_CONFIG in torch (aten/src/ATen/cuda/CublasHandlePool.cpp): :4096:2:16:8, in KiB, and
# 32 MiB on compute capability 9.0. Since torch 2.11 cuBLASLt, which does linear layers with a bias, uses the same
# memory (TORCH_CUBLASLT_UNIFIED_WORKSPACE); before, it took 1 MiB of its own.
WORKSPACE, HOPPER_WORKSPACE = (2 * 4096 + 8 * 16) * 1024, 32 * MIB
# Driver, CUDA's kernels that have been loaded (lazily) and cuDNN: differs by hundreds of MiB with the versions of all
# three, so it is an order of magnitude, not a figure.
CONTEXT = 500 * MIB


def _rates(float32: float, bfloat16: float, float16: float) -> dict[str, float]:
    return {"float32": float32, "bfloat16": bfloat16, "float16": float16}


# Memory: the total that torch's out-of-memory errors report for the card ("total capacity of 139.80 GiB"), which is
# below the name's, by what driver and error correction keep; cards and drivers differ by about 0.1 GiB.
# Rates: NVIDIA's data sheets, dense (half of what they give "with sparsity"), fp16 and bf16 on tensor cores with fp32
# accumulation, fp32 on the CUDA cores, since torch leaves TF32 off for matrix products.
GPUS = {
    gpu.name: gpu
    for gpu in (
        # H200 SXM data sheet: 67 TFLOP/s fp32, 989 bf16, 4.8 TB/s, 132 multiprocessors.
        Gpu("h200", int(139.80 * GIB), (9, 0), _rates(67e12, 989e12, 989e12), 4.8e12, HOPPER_WORKSPACE, CONTEXT, 132),
        # H100 SXM5 data sheet: as the H200, with 80 GB at 3.35 TB/s.
        Gpu("h100", int(79.18 * GIB), (9, 0), _rates(67e12, 989e12, 989e12), 3.35e12, HOPPER_WORKSPACE, CONTEXT, 132),
        # A100 80 GB SXM data sheet: 19.5 TFLOP/s fp32, 312 bf16, 2039 GB/s, 108 multiprocessors.
        Gpu("a100", int(79.15 * GIB), (8, 0), _rates(19.5e12, 312e12, 312e12), 2.039e12, WORKSPACE, CONTEXT, 108),
        # L40S data sheet: 91.6 TFLOP/s fp32, 362 bf16, 864 GB/s; 142 multiprocessors (18,176 CUDA cores).
        Gpu("l40s", int(44.40 * GIB), (8, 9), _rates(91.6e12, 362e12, 362e12), 0.864e12, WORKSPACE, CONTEXT, 142),
        # T4 data sheet: 8.1 TFLOP/s fp32, 65 fp16, 320 GB/s; bf16 is emulated in fp32, at most as fast as that.
        Gpu("t4", int(14.74 * GIB), (7, 5), _rates(8.1e12, 8.1e12, 65e12), 0.32e12, WORKSPACE, CONTEXT, 40),
        # Ada GPU architecture paper, GeForce RTX 4090: 82.6 TFLOP/s fp32, 165.2 fp16 with fp32 accumulation, 1008 GB/s.
        Gpu(
            "rtx4090", int(23.64 * GIB), (8, 9), _rates(82.6e12, 165.2e12, 165.2e12), 1.008e12, WORKSPACE, CONTEXT, 128
        ),
    )
}
"""The profiles by their names: "h200", "h100", "a100", "l40s", "t4" and "rtx4090", of data sheets, and of the memory
that drivers report. Another GPU is a ``Gpu`` of your own, or ``dataclasses.replace(GPUS["a100"], ...)``.
"""


def gpu_called(name: str | Gpu) -> Gpu:
    """The profile called ``name``. Raises RecipeError, with the names there are, for another one."""
    if isinstance(name, Gpu):
        return name
    if not isinstance(name, str) or name not in GPUS:
        raise RecipeError(f"gpu is {name!r}; allowed: {', '.join(GPUS)}, or a Gpu(...)")
    return GPUS[name]
