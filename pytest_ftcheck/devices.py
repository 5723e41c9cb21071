"""Which device a session trains on."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass

from .errors import DeviceError

# The driver's library, by which a machine without a GPU is known without the seconds that importing torch takes.
DRIVERS = ("libcuda.so.1", "libcuda.so", "nvcuda.dll", "libamdhip64.so", "libamdhip64.so.6", "amdhip64.dll")


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
    """The torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: auto is a GPU where there is one.

    Raises DeviceError where a GPU was asked for by name and is not there.
    """
    if wanted == "cpu":
        return "cpu"
    gpus = usable_gpus()
    if wanted == "auto":
        return "cuda:0" if gpus.memory_bytes else "cpu"
    number = int(wanted.partition(":")[2] or 0)
    if number >= len(gpus.memory_bytes):
        there = gpus.why_none or f"there are {len(gpus.memory_bytes)}"
        raise DeviceError(f"--ftcheck-device={wanted}: no such GPU ({there}); allowed here: cpu, auto")
    return f"cuda:{number}"


def lacks(memory_bytes: int, count: int) -> str | None:
    """Why the GPUs here do not do for a test that needs ``count`` of ``memory_bytes`` each; None if they do."""
    gpus = usable_gpus()
    if not gpus.memory_bytes:
        return gpus.why_none
    large = [size for size in gpus.memory_bytes if size >= memory_bytes]
    if len(large) < count:
        sizes = ", ".join(f"{size / 1e9:.0f} GB" for size in gpus.memory_bytes)
        return f"needs {count} GPU(s) of {memory_bytes / 1e9:.0f} GB, here: {sizes}"
    return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
