"""Which rows of the data a training saw: told from the tokens that reached the model, whatever loader brought them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.trace import ForwardPass


def row_keys(forward: ForwardPass) -> list[str]:
    """One key for each row of a forward pass; equal for equal tokens, however much padding surrounds them.

    Empty where the inputs show no rows.
    """
    ids = forward.input_ids
    if ids is None:
        return _keys_of_values(forward.inputs)
    real = real_tokens(forward)
    return [_key(row[keep].tolist()) for row, keep in zip(ids, real, strict=True)]


def real_tokens(forward: ForwardPass) -> Tensor:
    """Which positions of ``input_ids`` [rows, length] are not padding: by the attention mask, or where there is none by
    what follows (or precedes) the last token that differs from the constant at the end (or the start) of two rows.
    """
    import torch

    ids = forward.input_ids
    assert ids is not None
    mask = forward.inputs.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        return mask.bool()
    real = torch.ones_like(ids, dtype=torch.bool)
    for side in (-1, 0):
        if len(ids) < 2 or ids.shape[1] < 3:
            break
        # Padding is the same token at the edge of several rows, twice or more in one of them, and never in all at length.
        edge = ids[:, side]
        pad = edge.mode().values
        runs = _run_lengths(ids if side == 0 else ids.flip(1), pad)
        if int((edge == pad).sum()) >= 1 and int(runs.max()) >= 2 and int(runs.min()) == 0:
            position = torch.arange(ids.shape[1])
            position = position if side == 0 else position.flip(0)
            real &= position[None, :] >= runs[:, None]
    return real


def _run_lengths(ids: Tensor, token: Tensor) -> Tensor:
    """How many times each row begins with ``token``."""
    return (ids == token).long().cumprod(dim=1).sum(dim=1)


def _keys_of_values(inputs: dict[str, Any]) -> list[str]:
    import torch

    tensors = [t for t in inputs.values() if isinstance(t, torch.Tensor) and t.dim() > 0]
    if not tensors:
        return []
    rows = tensors[0]
    return [_key(row.reshape(-1).tolist()) for row in rows]


def _key(values: list[Any]) -> str:
    return hashlib.blake2b(repr(values).encode(), digest_size=8).hexdigest()
