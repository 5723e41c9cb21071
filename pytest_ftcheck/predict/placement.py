"""Putting a model on the fake device, whether it was built with weights, without (on ``meta``), or under an adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ..errors import PredictionError
from .device import FakeDevice
from .values import Values

# Classes of packages that keep weights in a format of their own, which their own kernels read.
QUANTIZED = ("Params4bit", "Int8Params", "Linear4bit", "Linear8bitLt", "QuantLinear", "WQLinear")


def place(model: nn.Module, device: FakeDevice, values: Values) -> nn.Module:
    """``model`` with every parameter and buffer on ``device``, in place; tied parameters stay tied.

    ``meta`` has no contents that ``model.to(device)`` could copy. What is worth knowing of real contents (a counter, a
    flag) ``values`` remembers. Raises PredictionError for quantized weights.
    """

    def placed(tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        fake = device.empty(like=tensor)
        values.remember(fake, tensor)
        return fake

    refuse_own_formats(model)
    return _replaced(model, placed)


def let_modules_move(values: Values) -> None:
    """Let ``module.to(...)`` and its like, which torch refuses for fake tensors ("couldn't swap"), replace them."""

    def apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        return _replaced(module, fn, recurse)

    nn.Module._apply = apply  # type: ignore[method-assign]


def refuse_own_formats(model: nn.Module) -> None:
    """Raise PredictionError for a model with weights that only a package's own kernels can read."""
    for name, module in model.named_modules():
        own = [*module._parameters.values(), *module._buffers.values(), module]
        kinds = [type(one).__name__ for one in own if one is not None and _has_own_format(one)]
        if kinds:
            raise PredictionError(
                f"{name or 'the model'} is kept in a format of its own ({kinds[0]}), whose kernels cannot run on "
                "tensors without contents\n"
                "  what to do: predict with the weights unquantized, and subtract what quantization saves of the "
                "weights: 0.5 bytes a parameter in 4 bits, 1 in 8 bits, in place of the dtype's"
            )


def _has_own_format(one: Any) -> bool:
    if isinstance(one, FakeTensor):
        return False
    wraps = isinstance(one, Tensor) and type(one).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return wraps or any(kind.__name__.startswith(QUANTIZED) for kind in type(one).__mro__)


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
        return _became(tensor, changed)
    return changed


def _became(parameter: nn.Parameter, changed: Tensor) -> nn.Parameter:
    """``parameter`` itself with what is in ``changed``, as on a real device: an optimizer may hold it already."""
    # Detached twice, because the first result of an operation on fake tensors is one that torch cannot swap.
    new = nn.Parameter(changed.detach(), requires_grad=parameter.requires_grad)
    grad, parameter.grad = parameter.grad, None
    try:
        torch.utils.swap_tensors(parameter, new)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return new
    if grad is not None:
        parameter.grad = changed.new_empty(grad.shape)
    return parameter
