"""What ``nvidia-smi`` and ``rocm-smi`` say of a machine's GPUs: they come with the driver, and start in a moment where
torch takes seconds.

https://docs.nvidia.com/deploy/nvidia-smi/ and https://rocm.docs.amd.com/projects/rocm_smi_lib/
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

from .gpu import Process, VisibleGpu

NVIDIA, AMD = "nvidia-smi", "rocm-smi"
# A driver in trouble makes its tool hang; a session must still start.
PATIENCE_S = 20.0
QUERY = ("--format=csv,noheader,nounits",)
MIB = 2**20


def all_gpus() -> tuple[VisibleGpu, ...]:
    """Every GPU of this machine, in the driver's order; MIG instances in place of the GPU that is divided into them."""
    return _nvidia_gpus() if shutil.which(NVIDIA) else _amd_gpus() if shutil.which(AMD) else ()


def _nvidia_gpus() -> tuple[VisibleGpu, ...]:
    processes = _processes()
    found = []
    for uuid, total, used in _table("--query-gpu=uuid,memory.total,memory.used"):
        memory = (_number(total) * MIB, _number(used) * MIB)
        found.append(VisibleGpu(uuid, *memory, tuple(processes.get(uuid, ())), uuid))
    instances = _instances(_said(NVIDIA, "-L"))
    return tuple(part for gpu in found for part in instances.get(gpu.name) or [gpu])


def _processes() -> dict[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for uuid, pid, name, used in _table("--query-compute-apps=gpu_uuid,pid,process_name,used_memory"):
        found.setdefault(uuid, []).append(Process(_number(pid), name.rpartition("/")[2], _number(used) * MIB))
    return found


def _instances(listing: str) -> dict[str, list[VisibleGpu]]:
    """The MIG instances by the UUID of their GPU. Their memory is in their profile's name (``1g.10gb``); who uses one
    is not told apart.
    """
    found: dict[str, list[VisibleGpu]] = {}
    gpu = ""
    for line in listing.splitlines():
        whole = re.search(r"^GPU \d+:.*\(UUID: (GPU-[\w-]+)\)", line)
        part = re.search(r"^\s+MIG (\S+)\s+Device\s+\d+:\s+\(UUID: (MIG-[^)]+)\)", line)
        if whole:
            gpu = whole[1]
        elif part:
            memory = re.search(r"(\d+)gb", part[1])
            size_bytes = int(memory[1]) * 2**30 if memory else 0
            found.setdefault(gpu, []).append(VisibleGpu(part[2], size_bytes, identity=part[2]))
    return found


def _amd_gpus() -> tuple[VisibleGpu, ...]:
    try:
        cards: dict[str, Any] = json.loads(_said(AMD, "--showmeminfo", "vram", "--json") or "{}")
    except ValueError:
        return ()
    names = sorted((name for name in cards if re.fullmatch(r"card\d+", name)), key=lambda name: int(name[4:]))
    return tuple(_amd_gpu(str(index), cards[name]) for index, name in enumerate(names))


def _amd_gpu(name: str, card: dict[str, str]) -> VisibleGpu:
    total, used = (_number(card.get(f"VRAM Total {kind}Memory (B)", "")) for kind in ("", "Used "))
    return VisibleGpu(name, total, used)


def _table(query: str) -> list[list[str]]:
    rows = [[field.strip() for field in line.split(",")] for line in _said(NVIDIA, query, *QUERY).splitlines()]
    # A line of another width is a message ("No devices were found").
    return [row for row in rows if len(row) == query.count(",") + 1]


def _number(text: str) -> int:
    """0 for what is not told ("[N/A]")."""
    return int(text) if text.isdigit() else 0


def _said(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""
