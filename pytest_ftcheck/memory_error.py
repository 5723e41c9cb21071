"""What to tell somebody whose training ran out of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recipe import Job


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device, or the host, has no memory left."""
    import torch

    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def out_of_memory(job: Job, method: str, updates: int, error: BaseException) -> str:
    """The error's first line with numbers, what the training holds in any case, and what to change."""
    from .theory.memory import static_bytes

    parameters = list(job.model.parameters())
    trainable = [p for p in parameters if p.requires_grad]
    static = static_bytes(
        trainable=sum(p.numel() for p in trainable),
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        dtype=job.dtype,
        trainable_tensors=len(trainable),
    )
    rows = job.batch_size * job.accumulation
    advice = [f"batch_size={max(1, job.batch_size // 2)} with accumulation={rows // max(1, job.batch_size // 2)}"]
    advice += ["gradient checkpointing", "shorter rows", "dtype='bfloat16'" if job.dtype == "float32" else ""]
    return (
        f"{method}: out of memory on {job.device} after {updates} of {job.steps} updates "
        f"({str(error).splitlines()[0]})\n"
        f"  held whatever the batch is, with AdamW: {_mib(static.total)} = weights {_mib(static.weights)} + gradients "
        f"{_mib(static.gradients)} + optimizer {_mib(static.optimizer)}; the rest is activations of a batch of "
        f"{job.batch_size} rows\n"
        f"  what to change: {', '.join(filter(None, advice))}"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
