"""Values that a training reads from tensors which have none.

Loops read a loss to log it, and count labels to weigh it. What follows from the data alone (ids, labels, masks) is
computed beside the fake tensors, so a mask of ones is known to be of ones. Floats are taken to be finite, wherever that
is asked. A loop that reads a single float (a loss, a norm) gets 1.0, or what follows from it: such an answer is an
assumption, and is recorded. Any other number may be read and logged; what is decided by it, and within a module by a
float, too, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from ..observers.memory import tensors_in
from .device import FakeDevice
from .modules import ModuleWatch
from .unknown import UnknownNumber
from .unsupported import depends_on_values, place, readable

# Above so many elements a value is not kept: 4 Mi booleans are computed in a few milliseconds. Floats that follow from
# the data are weights of tokens; larger ones are positions and masks, by which nothing is decided.
LIMIT, FLOAT_LIMIT = 2**22, 2**16
ASSUMED_FLOAT = 1.0
# What an answer rests on: that floats are finite, or that a single one is ASSUMED_FLOAT.
IS_FINITE, IS_ONE = "floats are taken to be finite", f"a float that is read is taken to be {ASSUMED_FLOAT}"
# Each with what is said of finite floats; torch asks for isfinite(x) by x == x and abs(x) != inf.
FINITE = {"aten::isnan": False, "aten::isinf": False}
COMPARISONS = {"aten::eq": True, "aten::ne": False}
# What a gradient scaler writes its finding into, which was created as 0.
LEAVES_AS_IT_IS = {"aten::_amp_foreach_non_finite_check_and_unscale_"}
READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::item", "aten::equal"}
# What they leave in memory is not of the training's making, and must be the same in every prediction.
UNINITIALISED = {f"aten::{name}" for name in ("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided")}


class Values:
    """What is known of the contents of fake tensors."""

    def __init__(self, device: FakeDevice, modules: ModuleWatch) -> None:
        self.device, self.modules = device, modules
        # Place in the code -> what was assumed there.
        self.assumptions: dict[str, str] = {}

    def read(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The answer to an operation that reads a number. Raises PredictionError where it cannot be told."""
        return func(*(self.contents(arg, readable(func)) for arg in args if isinstance(arg, Tensor)))

    def number(self, tensor: Tensor) -> Any:
        """What ``tensor.item()`` is; an ``UnknownNumber`` where that cannot be told."""
        if tensor.numel() == 1 and not self._may_be_read(self.known(tensor)):
            self._assume(IS_ONE)
            return UnknownNumber()
        return self.contents(tensor, "item()").item()

    def listed(self, tensor: Tensor) -> Any:
        """What ``tensor.tolist()`` is."""
        if self._may_be_read(self.known(tensor)):
            return self.contents(tensor, "tolist()").tolist()
        return [self.listed(part) for part in tensor] if tensor.dim() else self.number(tensor)

    def contents(self, tensor: Tensor, what: str) -> Tensor:
        """The values of ``tensor``. Raises PredictionError, about ``what`` needs them, where they are not known."""
        value = self.known(tensor)
        if value is None or not self._may_be_read(value):
            raise depends_on_values(what, self.modules.current())
        self._assume(_basis(value))
        return value

    def _may_be_read(self, value: Tensor | None) -> bool:
        """Whether ``value`` is known, or is one that a loop may assume and a model may not."""
        return value is not None and not (self.modules.inside and _basis(value) == IS_ONE)

    def remember(self, fake: Tensor, real: Tensor) -> None:
        """That ``fake`` has the values of ``real``, as far as they are worth knowing."""
        if real.device.type == "cpu" and _worth_knowing(real) and not _is_weight(real):
            fake._known = real.detach().clone()  # type: ignore[attr-defined]

    def arrived(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        """``result`` of an operation as the training gets it: on the CPU of a GPU, the real values where known."""
        if not isinstance(result, FakeTensor):
            return result
        if func._schema.is_mutable:
            # Of a real tensor that was written into there is only a fake one here.
            return next((tensor for tensor in _changed_by(func, args, kwargs) if _is_real(tensor)), result)
        if self.device.type == "cpu" or result.device.type != "cpu":
            return result
        return self.contents(result, readable(func)) if self._may_be_read(self.known(result)) else result

    def propagate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Compute what is known of ``result``, and forget what an operation in place has changed."""
        results = tensors_in((result,))
        values = None
        if any(_worth_knowing(tensor) for tensor in results):
            values = self._computed(func._schema.name, func, args, kwargs)
        if values is None:
            if func._schema.is_mutable and func._schema.name not in LEAVES_AS_IT_IS:
                for tensor in _changed_by(func, args, kwargs):
                    self._forget(tensor, func)
            return
        for tensor, value in zip(results, tensors_in((values,)), strict=False):
            if not _is_real(tensor) and _worth_knowing(tensor):
                tensor._known = value  # type: ignore[attr-defined]

    def result_of(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``func`` gives, where the shape of that depends on values and all of them are known; else None."""
        return self._computed(func._schema.name, func, args, kwargs)

    def _computed(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """``func`` on the known values; None where an operand is not known."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            return None
        tensors = tensors_in((*args, *kwargs.values()))
        finite = _answer_for_finite(name, args)
        if finite is not None and not _is_certain(self.known(tensors[0])):
            return _resting_on(IS_FINITE, torch.tensor(finite).expand(tensors[0].shape))
        known = {id(tensor): self.known(tensor) for tensor in tensors}
        if any(value is None for value in known.values()):
            return None
        real_args, real_kwargs = tree_map(lambda leaf: known.get(id(leaf), leaf), (args, kwargs))
        if "device" in real_kwargs:
            real_kwargs = {**real_kwargs, "device": "cpu"}
        try:
            values = func(*real_args, **real_kwargs)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
            return None
        bases = {_basis(value) for value in known.values() if value is not None}
        basis = next((one for one in (IS_ONE, IS_FINITE) if one in bases), "")
        for value in tensors_in((values,)):
            if name in UNINITIALISED:
                value.zero_()
            _resting_on(basis, value)
        return values

    def known(self, tensor: Tensor) -> Tensor | None:
        """The values of ``tensor``, those of a single float assumed where need be; None where they are not known."""
        if _is_real(tensor):
            return None if _is_weight(tensor) or not _worth_knowing(tensor) else tensor
        value: Tensor | None = getattr(tensor, "_known", None)
        if value is not None and getattr(tensor.untyped_storage(), "_forgotten", False):
            value = None
        if value is None and tensor.numel() == 1 and tensor.is_floating_point():
            value = _resting_on(IS_ONE, torch.full(tensor.shape, ASSUMED_FLOAT, dtype=tensor.dtype))
        return value

    def _forget(self, tensor: Tensor, func: Any) -> None:
        """``func`` has written something unknown into ``tensor``, and so into every view of the same memory."""
        if not _is_real(tensor):
            tensor.untyped_storage()._forgotten = True  # type: ignore[attr-defined]
        elif tensor.is_floating_point():
            self._assume(IS_ONE)
            tensor.detach().fill_(ASSUMED_FLOAT)
        else:
            raise depends_on_values(f"{readable(func)} into a tensor on the CPU", self.modules.current())

    def _assume(self, basis: str) -> None:
        here = place() if basis else ""
        if here:
            self.assumptions.setdefault(here, basis)


def _worth_knowing(tensor: Tensor) -> bool:
    """Whether the values of an operation's result are computed: small, and not activations."""
    if tensor.is_floating_point():
        return tensor.numel() <= FLOAT_LIMIT
    return not tensor.is_complex() and tensor.numel() <= LIMIT


def _answer_for_finite(name: str, args: tuple[Any, ...]) -> bool | None:
    """What an operation that asks whether floats are finite says where they are; None for any other."""
    if name not in COMPARISONS:
        return FINITE.get(name)
    if args[0] is args[1]:
        return COMPARISONS[name]
    return not COMPARISONS[name] if isinstance(args[1], float) and math.isinf(args[1]) else None


def _is_weight(tensor: Tensor) -> bool:
    """Whether a real tensor holds what a prediction does not want to know: floats, other than a single one."""
    return tensor.is_floating_point() and tensor.numel() > 1


def _changed_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation writes into."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from tensors_in((value,))


def _is_real(tensor: Tensor) -> bool:
    return not isinstance(tensor, FakeTensor)


def _resting_on(basis: str, value: Tensor) -> Tensor:
    """``value``, which is as said only if ``basis`` is true (empty: in any case)."""
    value._basis = basis  # type: ignore[attr-defined]
    return value


def _basis(value: Tensor) -> str:
    return getattr(value, "_basis", "")


def _is_certain(value: Tensor | None) -> bool:
    return value is not None and not _basis(value)
