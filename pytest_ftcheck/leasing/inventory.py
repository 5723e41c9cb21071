"""The GPUs that the caller lets this session see, and which of them are free."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .driver import all_gpus
from .gpu import VisibleGpu

# What torch obeys, in the order in which it narrows the choice: ROCm has names of its own, and takes CUDA's as well.
VARIABLES = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Inventory:
    """``variable`` is how a process is told which GPUs are its own."""

    gpus: tuple[VisibleGpu, ...]
    variable: str

    @property
    def free(self) -> tuple[VisibleGpu, ...]:
        """Those that nobody uses."""
        return tuple(gpu for gpu in self.gpus if gpu.in_use() is None)

    @property
    def refused(self) -> tuple[str, ...]:
        """Of each other one, who uses it."""
        return tuple(told for gpu in self.gpus if (told := gpu.in_use()))


def inventory(environment: Mapping[str, str] = os.environ) -> Inventory:
    """The GPUs that ``environment`` shows, by the names that it uses."""
    machine = all_gpus()
    variable = next((name for name in VARIABLES if name in environment), VARIABLES[1])
    shown = environment.get(variable)
    if shown is None:
        return Inventory(machine, variable)
    return Inventory(tuple(_known(name, machine, environment) for name in _names(shown)), variable)


def _names(shown: str) -> list[str]:
    """The names in a variable. CUDA reads as far as the first that is none: "0,-1,1" shows only GPU 0.

    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    names = []
    for name in (part.strip() for part in shown.split(",")):
        if not name or name == "-1":
            break
        names.append(name)
    return names


def _known(name: str, machine: Sequence[VisibleGpu], environment: Mapping[str, str]) -> VisibleGpu:
    """The GPU called ``name`` with what the driver says of it, or without where it cannot be told which one it is."""
    if name.isdigit():
        # CUDA counts the fastest first and the driver by bus: the same where all are alike, or where CUDA is told to.
        alike = len({gpu.memory_bytes for gpu in machine}) == 1
        by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        same = machine[int(name)] if (alike or by_bus) and int(name) < len(machine) else None
    else:
        # A UUID may be cut short as long as it is the only one that begins so.
        same = next((gpu for gpu in machine if gpu.name.startswith(name)), None)
    return dataclasses.replace(same, name=name) if same else VisibleGpu(name)
