"""Random numbers that depend on a seed and nothing else: what is drawn again is the same, and nothing is disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

L = TypeVar("L", bound=nn.Module)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Numbers from the standard normal distribution; of the same seed the same ones in every precision."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def with_normal_weights(layer: L, seed: int) -> L:
    """``layer``, with every parameter drawn anew: a bias of zeros would hide what is done to it."""
    source = generator(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return layer


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What an implementation draws within is decided by ``seed``; the numbers of torch's generator outside are not."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
