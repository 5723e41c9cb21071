"""Breaking what the loss is taken of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from torch import Tensor

    from ...recipe import Job, Recipe


def _of_other_logits(change: Callable[[Tensor], Tensor]) -> Callable[[Recipe], Recipe]:
    """Every cross-entropy is taken of ``change(logits)``."""

    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        import torch.nn.functional as F

        original = F.cross_entropy

        def cross_entropy(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return original(change(input), *args, **kwargs)

        with patched(F, "cross_entropy", cross_entropy):
            yield

    return lambda recipe: around_training(recipe, context)


def _rounded(logits: Tensor) -> Tensor:
    return logits.bfloat16()


SOFTMAXED_TWICE = Sabotage(
    "softmaxed-twice",
    "the loss takes the softmax of probabilities",
    _of_other_logits(lambda logits: logits.softmax(dim=-1)),
)
LOSS_ROUNDED = Sabotage("loss-rounded", "the loss is computed in bfloat16", _of_other_logits(_rounded))
