"""Which inputs the model was trained on, in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .events import Watcher

if TYPE_CHECKING:
    from torch import Tensor


class BatchWatch(Watcher):
    """Keeps a checksum of the whole-number inputs (token ids, labels, masks) of every training forward pass."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._weights: dict[tuple[str, int], Tensor] = {}
        self.tokens = 0

    def forward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        if not torch.is_grad_enabled():
            return
        first = True
        for tensor in _whole_number_tensors((args, kwargs)):
            self._sums.append(self._checksum(tensor))
            self.tokens += tensor.numel() if first else 0
            first = False

    def digest(self) -> str:
        """A digest of all inputs so far, in their order; empty where the model was given none."""
        if not self._sums:
            return ""
        text = ",".join(str(int(value)) for value in self._sums)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _checksum(self, tensor: Tensor) -> Tensor:
        """A position-dependent sum, left on the tensor's device so that a GPU need not wait."""
        import torch

        size, device = tensor.numel(), tensor.device
        weights = self._weights.get((str(device), size))
        if weights is None:
            generator = torch.Generator().manual_seed(size)
            weights = torch.randint(-(2**62), 2**62, (size,), generator=generator).to(device)
            self._weights[(str(device), size)] = weights
        # Whole numbers wrap around at 64 bits, so the sum is the same in any order of addition.
        return (tensor.detach().reshape(-1).to(torch.int64) * weights).sum()


def _whole_number_tensors(inputs: Any) -> Iterator[Tensor]:
    """The tensors of whole numbers in nested inputs; keyword arguments in the order of their names."""
    import torch

    if isinstance(inputs, torch.Tensor):
        if not (inputs.is_floating_point() or inputs.is_complex()):
            yield inputs
    elif isinstance(inputs, dict):
        # input_ids first: its size is the number of tokens.
        for key in sorted(inputs, key=lambda key: (key != "input_ids", str(key))):
            yield from _whole_number_tensors(inputs[key])
    elif isinstance(inputs, (list, tuple)):
        for item in inputs:
            yield from _whole_number_tensors(item)
