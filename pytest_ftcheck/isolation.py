"""Leaving things as they were: random number generators, module modes, torch's global settings."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def seed_everything(seed: int) -> None:
    """Seed Python, numpy (where it is loaded) and torch on every device."""
    import torch

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def preserved_generators() -> Iterator[None]:
    """Run the body without a trace in the random number generators of Python, numpy and torch."""
    import torch

    python, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if in_use else []):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(numpy_state)


def forget_accelerators() -> None:
    """Let the next accelerator of accelerate be the first of this process: device and precision are kept for all."""
    state = sys.modules.get("accelerate.state")
    for name in ("AcceleratorState", "GradientState", "PartialState"):
        reset = getattr(getattr(state, name, None), "_reset_state", None)
        if reset is not None:
            reset()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, and each module back into the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def preserved_settings(threads: int | None = None) -> Iterator[None]:
    """Run the body on ``threads`` CPU threads; afterwards the generators, the thread count, the working directory,
    torch's default dtype and device, autocast, anomaly detection, deterministic algorithms and whether gradients are
    recorded are what they were before, whatever a user's training did to them.
    """
    import torch

    count, dtype, recording = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    folder, device, autocast = os.getcwd(), torch.get_default_device(), torch.is_autocast_enabled("cpu")
    anomalies, deterministic = torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled()
    only_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    with preserved_generators():
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            torch.set_grad_enabled(True)
            yield
        finally:
            torch.set_num_threads(count)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(recording)
            torch.set_autocast_enabled("cpu", autocast)
            torch.autograd.set_detect_anomaly(anomalies)
            torch.use_deterministic_algorithms(deterministic, warn_only=only_warning)
            if torch.get_default_device() != device:
                torch.set_default_device(device)
            os.chdir(folder)
