"""Which rows of the data a training saw: told from the tokens that reached the model, whatever loader brought them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..observers.update import ForwardPass

# So many repetitions of a token at the ends of a batch's rows are padding.
MANY = 3


def row_keys(forward: ForwardPass) -> list[str]:
    """One key for each row of a forward pass; equal for equal tokens, however much padding surrounds them.

    Empty where the inputs show no rows.
    """
    ids = forward.input_ids
    if ids is None:
        return _keys_of_values(forward.inputs)
    real = real_tokens(forward)
    return [_key(row[keep].tolist()) for row, keep in zip(ids, real, strict=True)]


def real_tokens(forward: ForwardPass, pad_token: int | None = None) -> Tensor:
    """Which positions of ``input_ids`` [rows, length] are not padding: by the attention mask, or by the tokens where
    there is none, or it hides nothing. ``pad_token`` is the one that the model's configuration names.
    """
    import torch

    ids = forward.input_ids
    assert ids is not None
    mask = forward.inputs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
        return not_padding(ids, pad_token)
    if bool((mask != 0).all()) and pad_token is not None:
        return not_padding(ids, pad_token)
    return mask != 0


def not_padding(ids: Tensor, pad_token: int | None = None) -> Tensor:
    """Which positions of ``ids`` [rows, length] are not padding, judged by the tokens alone.

    Padding is ``pad_token``, or where that is None a token that repeats, at the end (or the start) of some rows; it
    is in no row's interior, and more of it in some rows than in others. Where all rows end with it, it may be the end
    of the sequence besides, so each keeps one.
    """
    import torch

    real = torch.ones_like(ids, dtype=torch.bool)
    for reverse in (True, False):
        seen = ids.flip(1) if reverse else ids
        for token in {int(token) for token in seen[:, 0]} if pad_token is None else {pad_token}:
            runs = _run_lengths(seen, token)
            within = (seen == token).sum(dim=1) - runs
            ragged = int(runs.max()) > int(runs.min())
            # Text may end with the same token twice, but hardly several rows of one batch.
            certain = pad_token is not None or int((runs - 1).clamp_min(0).sum()) >= MANY
            if ragged and certain and not bool(within.any()):
                kept = runs.min().clamp_max(1)
                hidden = torch.arange(ids.shape[1], device=ids.device)[None, :] < (runs - kept)[:, None]
                real &= ~(hidden.flip(1) if reverse else hidden)
    return real


def _run_lengths(ids: Tensor, token: int) -> Tensor:
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
