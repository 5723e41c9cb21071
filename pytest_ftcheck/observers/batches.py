"""Which inputs the model was trained on, in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .beginning import NOTHING, Beginning
from .events import Watcher

if TYPE_CHECKING:
    from torch import Tensor


class BatchWatch(Watcher):
    """Keeps a checksum of the inputs of every training forward pass: of the whole-number ones (token ids, labels,
    masks), or where there are none of the others (images), unless they are computed by something that trains.
    """

    def __init__(self, beginning: Beginning = NOTHING) -> None:
        self._sums: list[Tensor | int] = list(beginning.checksums)
        self._weights: dict[tuple[str, int], Tensor] = {}
        self.tokens = beginning.tokens

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if not torch.is_grad_enabled():
            return
        tensors = [tensor for tensor in _tensors((args, kwargs)) if not tensor.requires_grad]
        whole = [tensor for tensor in tensors if _is_whole(tensor)]
        self._sums += [self._checksum(tensor) for tensor in whole or tensors]
        self.tokens += input_tokens(args, kwargs)

    def digest(self) -> str:
        """A digest of all inputs so far, in their order; empty where the model was given none."""
        if not self._sums:
            return ""
        text = ",".join(map(str, self.checksums()))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def checksums(self) -> tuple[int, ...]:
        """One for each input so far."""
        return tuple(int(value) for value in self._sums)

    def _checksum(self, tensor: Tensor) -> Tensor:
        """A position-dependent sum, left on the tensor's device so that a GPU need not wait."""
        import torch

        flat = tensor.detach().reshape(-1)
        if not _is_whole(tensor):
            # Its bits. Complex numbers are pairs, and so twice as many.
            flat = (torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat).contiguous()
            flat = flat.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
        size, device = flat.numel(), flat.device
        weights = self._weights.get((str(device), size))
        if weights is None:
            generator = torch.Generator().manual_seed(size)
            weights = torch.randint(-(2**62), 2**62, (size,), generator=generator).to(device)
            self._weights[(str(device), size)] = weights
        # Whole numbers wrap around at 64 bits, so the sum is the same in any order of addition. GPUs lack such a dot.
        flat = flat.to(torch.int64)
        return torch.dot(flat, weights) if device.type == "cpu" else (flat * weights).sum()


def input_tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many tokens a call of the model is given: the size of ``input_ids``, or of its first whole-number input."""
    return next((tensor.numel() for tensor in _tensors((args, kwargs)) if _is_whole(tensor)), 0)


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _tensors(inputs: Any) -> Iterator[Tensor]:
    """The tensors in nested inputs; keyword arguments in the order of their names."""
    import torch

    if isinstance(inputs, torch.Tensor):
        yield inputs
    elif isinstance(inputs, dict):
        # input_ids first: its size is the number of tokens.
        for key in sorted(inputs, key=lambda key: (key != "input_ids", str(key))):
            yield from _tensors(inputs[key])
    elif isinstance(inputs, (list, tuple)):
        for item in inputs:
            yield from _tensors(item)
