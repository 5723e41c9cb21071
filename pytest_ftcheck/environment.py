"""The versions and the device that a run depends on; read without importing torch where that is possible."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .content import package_digest
from .run import Environment

CPU_INFO, DRIVER_INFO = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/version")
GPU_INFO = Path("/proc/driver/nvidia/gpus")
# A driver that is being loaded takes seconds to answer.
DRIVER_LIMIT_S = 20
PACKAGES = ("torch", "transformers", "peft", "accelerate", "pytest-ftcheck")


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Version of each package that a run depends on; "absent" where it is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def current_environment(device: str) -> Environment:
    """The environment of a run that is being made on ``device``."""
    import torch

    on_gpu = device.startswith("cuda")
    return Environment(
        device=device.split(":")[0],
        device_name=torch.cuda.get_device_name(device) if on_gpu else processor(),
        python=platform.python_version(),
        versions=dict(versions()) | (_of_gpu() if on_gpu else {}),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


@functools.lru_cache(maxsize=1)
def processor() -> str:
    """The processor's model and the instructions that torch uses of it: another one adds up in another order."""
    import torch

    found = re.search(r"^model name\s*:\s*(.+)$", _text(CPU_INFO), re.MULTILINE)
    model = found[1] if found else platform.processor() or platform.machine()
    return f"{' '.join(model.split())}, {torch.backends.cpu.get_cpu_capability()}"


def _of_gpu() -> dict[str, str]:
    """Versions of what stands between torch and the GPU."""
    import torch

    return {"cuda": str(torch.version.cuda or torch.version.hip)} | _driver()


def installed_gpu() -> dict[str, str]:
    """``name`` and ``driver`` of the first GPU, without importing torch; empty where there is none."""
    for file in sorted(GPU_INFO.glob("*/information")):
        name = re.search(r"^Model:\s*(.+)$", _text(file), re.MULTILINE)
        if name:
            return {"name": name[1].strip()} | _driver()
    return _asked_of_the_driver()


def _asked_of_the_driver() -> dict[str, str]:
    """The same from the driver's own command: a container may not see it in /proc."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DRIVER_LIMIT_S).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    name, _, driver = told.partition("\n")[0].partition(",")
    return {"name": name.strip(), "driver": driver.strip()} if name.strip() else {}


def _driver() -> dict[str, str]:
    found = re.search(r"Module.*?\s(\d+(?:\.\d+)+)", _text(DRIVER_INFO))
    return {"driver": found[1]} if found else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def environment_key(device: str, threads: int | None, gpu_names: Sequence[str] | None = None) -> dict[str, object]:
    """What a stored run must agree with to stand for a new one; needs no torch. ``gpu_names``: of the machines that may
    make the run, where that is not this one.

    Where the recipe leaves the number of CPU threads open, everything that torch takes it from counts: sums are
    divided among threads, so another number gives other bits.
    """
    open_threads = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS"),
    }
    return {
        "device": device.split(":")[0],
        "device_name": _device_names(device, gpu_names),
        "python": platform.python_version(),
        "versions": versions(),
        "package": package_digest(),
        "threads": threads if threads is not None else open_threads,
    }


def _device_names(device: str, gpu_names: Sequence[str] | None) -> object:
    if not device.startswith("cuda"):
        return platform.machine()
    # A GPU's name is asked of torch only by runs on a GPU, which have loaded it anyway.
    return current_environment(device).device_name if gpu_names is None else list(gpu_names)
