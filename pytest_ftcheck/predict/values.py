"""Values that a training reads from tensors which have none.

Loops read a loss to log it, and count labels to weigh it. Whole numbers and booleans that came from real data (ids,
labels, masks) are computed beside the fake tensors, so a mask of ones is known to be of ones. A single float that
nothing is known of is taken to be 1.0, and what is asked of floats (isnan, isfinite) is answered as for finite ones;
such an answer is an assumption and is recorded. Anything else that is read decides what happens next, and is refused.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves, tree_map

from ..content import is_installed
from ..errors import PredictionError

# Above this many elements a value is not kept: 4 Mi booleans are computed in a few milliseconds.
LIMIT = 2**22
ASSUMED_FLOAT = 1.0
FINITE = {"aten::isnan": False, "aten::isinf": False, "aten::isfinite": True}
# What a gradient scaler writes its finding into, which was created as 0.
LEAVES_AS_IT_IS = {"aten::_amp_foreach_non_finite_check_and_unscale_"}
READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::item"}


class Values:
    """What is known of the contents of fake tensors."""

    def __init__(self) -> None:
        # Place in the user's code -> what was assumed there.
        self.assumptions: dict[str, str] = {}

    def read(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The answer to an operation that reads a number. Raises PredictionError where it cannot be told."""
        value = self._known(args[0])
        if value is None:
            where = _place()
            raise PredictionError(
                f"the training reads a value that depends on weights or activations ({func._schema.name}), and a "
                f"prediction has none{where}\n"
                "  what to do: decide by a value that is there on the CPU (the labels, the mask), or by a float"
            )
        if getattr(value, "_assumed", False):
            self._assume(f"a float that was read is taken to be {value.item():g}")
        return value.item()

    def arrived(self, func: Any, args: tuple[Any, ...], result: Any) -> Any:
        """``result`` of an operation that brought a tensor to the CPU: the real values, where they are known."""
        if isinstance(result, FakeTensor) and result.device.type == "cpu":
            value = getattr(result, "_known", None)
            if value is not None:
                if getattr(value, "_assumed", False):
                    self._assume(f"a float that was read is taken to be {float(value):g}")
                return value
        return result

    def propagate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Compute what is known of ``result``, and forget what an operation in place has changed."""
        name = func._schema.name
        if not any(_worth_knowing(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if func._schema.is_mutable and name not in LEAVES_AS_IT_IS:
                self._forget(func, args, kwargs)
            return
        try:
            values = self._computed(name, func, args, kwargs, result)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            values = None
        if values is None:
            if func._schema.is_mutable and name not in LEAVES_AS_IT_IS:
                self._forget(func, args, kwargs)
            return
        for leaf, value in zip(tree_leaves(result), tree_leaves(values), strict=True):
            if isinstance(leaf, FakeTensor) and _worth_knowing(leaf):
                leaf._known = value  # type: ignore[attr-defined]

    def _computed(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
        """``func`` on the known values; None where an operand is not known."""
        if name in FINITE and self._known(args[0]) is None:
            return torch.tensor(FINITE[name]).expand(args[0].shape)
        if torch.Tag.nondeterministic_seeded in func.tags:
            return None
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = {id(tensor): self._known(tensor) for tensor in tensors}
        if any(value is None for value in known.values()):
            return None
        real_args, real_kwargs = tree_map(
            lambda leaf: known[id(leaf)] if isinstance(leaf, Tensor) else leaf, (args, kwargs)
        )
        if "device" in real_kwargs:
            real_kwargs = {**real_kwargs, "device": "cpu"}
        values = func(*real_args, **real_kwargs)
        assumed = any(getattr(value, "_assumed", False) for value in known.values())
        for value in tree_leaves(values):
            if assumed and isinstance(value, Tensor):
                value._assumed = True  # type: ignore[attr-defined]
        return values

    def _known(self, tensor: Tensor) -> Tensor | None:
        if not isinstance(tensor, FakeTensor):
            return tensor
        value: Tensor | None = getattr(tensor, "_known", None)
        if value is None and tensor.numel() == 1 and tensor.is_floating_point():
            value = torch.full(tensor.shape, ASSUMED_FLOAT, dtype=tensor.dtype)
            value._assumed = True  # type: ignore[attr-defined]
        return value

    def _forget(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for leaf in tree_leaves(value):
                    if isinstance(leaf, FakeTensor):
                        leaf._known = None  # type: ignore[attr-defined]

    def _assume(self, what: str) -> None:
        self.assumptions.setdefault(_place().strip(), what)


def _worth_knowing(tensor: Tensor) -> bool:
    """Whether the values of an operation's result are computed: small, and not activations."""
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor.numel() == 1
    return tensor.numel() <= LIMIT


def _place() -> str:
    """Where in the user's own code this is happening: ``, at train.py:33``."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.exists() and not is_installed(path.resolve()) and Path(__file__).parents[1] not in path.parents:
            return f", at {path.name}:{frame.lineno}"
    return ""
