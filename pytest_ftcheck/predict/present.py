"""The profile of a GPU that is there."""

from __future__ import annotations

import dataclasses
import itertools
import re

from .gpu import GPUS, Gpu


def present_gpu(device: str) -> Gpu | None:
    """The profile of the GPU ``device`` (``"cuda:0"``); None where there is none like it."""
    import torch

    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    return profile_of(name, capability)


def profile_of(name: str, capability: tuple[int, int] | None = None) -> Gpu | None:
    """The profile of the GPU that CUDA calls ``name``, or else, by its ``capability``, one of its generation: kernels
    are chosen by that.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    # "GeForce RTX 4090" is called rtx4090.
    words += [first + second for first, second in itertools.pairwise(words)]
    for gpu in GPUS.values():
        if gpu.name in words:
            return gpu
    if capability is None:
        return None
    generation = [gpu for gpu in GPUS.values() if gpu.capability[0] == capability[0]]
    if not generation:
        return None
    nearest = min(generation, key=lambda gpu: abs(gpu.capability[1] - capability[1]))
    return dataclasses.replace(nearest, name=name, capability=capability)
