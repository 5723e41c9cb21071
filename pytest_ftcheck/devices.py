"""Which device a session trains on."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass

from .errors import DeviceError

# The driver's library, by which a machine without a GPU is known without the seconds that importing torch takes.
DRIVERS = ("libcuda.so.1", "libcuda.so", "nvcuda.dll", "libamdhip64.so", "libamdhip64.so.6", "amdhip64.dll")

# Beyond a quarter in use by others, a training has not the memory that the GPU's size promises. What is timed shares
# with nobody: but for this process's own context, which takes some hundred MB, and a desktop's windows.
SHARED, ALONE_BYTES = 0.25, 1.5 * 2**30


@dataclass(frozen=True)
class Gpus:
    """The usable GPUs: memory of each in bytes; and, where there are none, why."""

    memory_bytes: tuple[int, ...]
    why_none: str = ""


@functools.lru_cache(maxsize=1)
def usable_gpus() -> Gpus:
    """The GPUs that torch can use in this process."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Gpus((), "CUDA_VISIBLE_DEVICES hides every GPU")
    if not any(_loads(driver) for driver in DRIVERS):
        return Gpus((), "no GPU driver on this machine")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return Gpus((), f"torch {torch.__version__} sees no GPU")
    return Gpus(tuple(torch.cuda.get_device_properties(i).total_memory for i in range(count)))


def resolve_device(wanted: str) -> str:
    """The torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: auto is the first GPU that is not in use
    by others, and the CPU where there is no GPU.

    Raises DeviceError where a GPU was asked for by name and is not there, and where all are in use.
    """
    gpus = usable_gpus()
    if wanted == "cpu" or (wanted == "auto" and not gpus.memory_bytes):
        return "cpu"
    if wanted == "auto":
        crowds = [crowd(number) for number in range(len(gpus.memory_bytes))]
        if all(crowds):
            raise DeviceError(f"{'; '.join(map(str, crowds))} (--ftcheck-device=cuda:0 uses it all the same)")
        return f"cuda:{crowds.index(None)}"
    number = int(wanted.partition(":")[2] or 0)
    if number >= len(gpus.memory_bytes):
        there = gpus.why_none or f"there are {len(gpus.memory_bytes)}"
        raise DeviceError(f"--ftcheck-device={wanted}: no such GPU ({there}); allowed here: cpu, auto")
    return f"cuda:{number}"


def lacks(memory_bytes: int, count: int, exclusive: bool = False) -> str | None:
    """Why the GPUs here do not do for a test that needs ``count`` of ``memory_bytes`` each, with nobody else on them if
    ``exclusive``; None if they do.
    """
    gpus = usable_gpus()
    if not gpus.memory_bytes:
        return gpus.why_none
    large = [number for number, size in enumerate(gpus.memory_bytes) if size >= memory_bytes]
    if len(large) < count:
        sizes = ", ".join(f"{size / 1e9:.0f} GB" for size in gpus.memory_bytes)
        return f"needs {count} GPU(s) of {memory_bytes / 1e9:.0f} GB, here: {sizes}"
    crowds = [told for number in large if (told := crowd(number, exclusive))]
    return "; ".join(crowds) if len(large) - len(crowds) < count else None


def crowd(number: int, exclusive: bool = False) -> str | None:
    """How much of GPU ``number`` others use, where that is too much; None where it is not, or cannot be told."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info(number)
    others = total - free - torch.cuda.memory_reserved(number)
    limit = ALONE_BYTES if exclusive else SHARED * total
    if others <= limit:
        return None
    return (
        f"{others / 1e9:.1f} of {total / 1e9:.1f} GB of cuda:{number} in use by others; allowed: {limit / 1e9:.1f} GB"
    )


def refuse_company(device: str) -> None:
    """Raise DeviceError where others use the GPU on which something is about to be timed."""
    told = crowd(int(device.partition(":")[2] or 0), exclusive=True) if device.startswith("cuda") else None
    if told:
        raise DeviceError(f"{told}: nothing can be timed there")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
