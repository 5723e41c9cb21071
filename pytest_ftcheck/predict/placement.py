"""Putting a model on the fake device, whether it was built with weights, without (on ``meta``), or under an adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .device import FakeDevice


def place(model: nn.Module, device: FakeDevice) -> nn.Module:
    """``model`` with every parameter and buffer on ``device``, in place; tied parameters stay tied.

    ``meta`` has no contents that ``model.to(device)`` could copy.
    """
    return _replaced(model, lambda tensor: device.empty(like=tensor))


def let_modules_move() -> None:
    """Let ``module.to(...)`` and its like, which torch refuses for fake tensors ("couldn't swap"), replace them."""
    nn.Module._apply = _apply  # type: ignore[method-assign]


def _apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    return _replaced(module, fn, recurse)


def _replaced(model: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """``model`` with ``fn`` applied to each of its tensors, once to each."""
    done: dict[int, tuple[Any, Tensor]] = {}
    for module in model.modules() if recurse else (model,):
        owned: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in owned:
            for name, tensor in tensors.items():
                if tensor is not None:
                    # The old tensor is kept until the end: its id must stay its own.
                    tensors[name] = _once(done, tensor, fn)
    return model


def _once(done: dict[int, tuple[Any, Tensor]], tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    if id(tensor) not in done:
        done[id(tensor)] = tensor, _changed(tensor, fn)
    return done[id(tensor)][1]


def _changed(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    changed = fn(tensor.detach() if isinstance(tensor, nn.Parameter) else tensor)
    same = changed.dtype == tensor.dtype and changed.device == tensor.device
    if same and changed.untyped_storage() is tensor.untyped_storage():
        return tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(changed, requires_grad=tensor.requires_grad)
    return changed
