"""Losses written out in plain torch, to hold the libraries' own to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .models import ARCHITECTURES

if TYPE_CHECKING:
    from torch import Tensor


IGNORED = -100


def reference_loss(name: str, logits: Tensor, labels: Tensor, total: bool = False) -> Tensor:
    """Cross-entropy over the labels that count, by the definition of the task, in plain torch."""
    import torch.nn.functional as F

    if ARCHITECTURES[name].task == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    flat = logits.float().reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum" if total else "mean")
