"""Small things to prepare with accelerate, and an Accelerator that leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..isolation import forget_accelerators


@contextlib.contextmanager
def fresh(**settings: Any) -> Iterator[Any]:
    """An Accelerator on the CPU, and none of its process-wide state left behind."""
    from accelerate import Accelerator

    forget_accelerators()
    try:
        yield Accelerator(cpu=True, **settings)
    finally:
        forget_accelerators()


def linear_model() -> tuple[Any, Any]:
    """A model of one weight and one bias, and SGD at rate 1: gradients can be read off the weight."""
    import torch

    model = torch.nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def loader_of(rows: int, size: int = 1, **settings: Any) -> Any:
    """A loader of the numbers from 0 to ``rows`` - 1, in batches of ``size``."""
    import torch

    numbers: Any = [float(i) for i in range(rows)]
    return torch.utils.data.DataLoader(numbers, batch_size=size, **settings)
