"""What a fake tensor answers where a training's own code, and not torch, asks it for its device or its contents."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ..errors import PredictionError
from .device import CUDA, FAKE_GPU, FakeDevice, is_gpu
from .unsupported import where
from .values import Values

# What gives a kernel of somebody's own, which is none of torch's operations, the memory of a tensor; and, the last, a
# file or another process its contents.
ADDRESSES = ("data_ptr", "__cuda_array_interface__", "__dlpack__", "__array__", "__reduce_ex__")


def show_as_cuda(device: FakeDevice) -> None:
    """Let fake tensors say that they are on ``cuda:0``, and every tensor go to them that is told to; for good."""
    fake: Any = FakeTensor
    held = fake.device

    def shown_device(tensor: Any) -> torch.device:
        actual: torch.device = held.fget(tensor)
        return CUDA if actual.type == FAKE_GPU and not tensor.fake_mode.at_work else actual

    fake.device = held.getter(shown_device)
    fake.is_cuda = property(lambda tensor: is_gpu(tensor.device))
    _let_every_tensor_move(device)
    _let_lists_become_tensors()


def _let_every_tensor_move(device: FakeDevice) -> None:
    every: Any = Tensor
    move = every.to

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], (str, int, torch.device)):
            args = (device.own(args[0]), *args[1:])
        if "device" in kwargs:
            kwargs["device"] = device.own(kwargs["device"])
        moved: Tensor = move(tensor, *args, **kwargs)
        return moved

    every.to = to
    every.cuda = lambda tensor, device=None, **kwargs: to(tensor, CUDA if device is None else device)
    # There is no page-locked memory here, and nothing would be faster with it.
    every.pin_memory = lambda tensor, device=None: tensor


def _let_lists_become_tensors() -> None:
    """torch makes tensors of lists, for ``x[[0, 1]]`` and ``x.new_tensor([0, 1])``, where no dispatch mode sees it."""
    fake: Any = FakeTensor
    get, put = fake.__getitem__, fake.__setitem__

    def new_tensor(tensor: Tensor, content: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
        return torch.tensor(content, dtype=dtype or tensor.dtype, device=device or tensor.device, **kwargs)

    fake.new_tensor = new_tensor
    fake.__getitem__ = lambda tensor, index: get(tensor, _with_tensors(index, tensor.device))
    fake.__setitem__ = lambda tensor, index, value: put(tensor, _with_tensors(index, tensor.device), value)


def _with_tensors(index: Any, device: torch.device) -> Any:
    """``index`` with tensors in place of lists of positions."""
    if isinstance(index, tuple):
        return tuple(_with_tensors(part, device) for part in index)
    positions = hasattr(index, "__len__") and not isinstance(index, Tensor)
    return torch.tensor(index, device=device) if positions else index


def answer_for_contents(values: Values) -> None:
    """Let fake tensors give their contents where they are known, and say so where they are not; for good."""
    fake: Any = FakeTensor
    for name in ADDRESSES:
        setattr(fake, name, _refused(name, values))
    fake.__deepcopy__ = _copied
    fake.item = lambda tensor: Tensor.item(tensor) if tensor.fake_mode.at_work else values.number(tensor)
    fake.tolist = lambda tensor: values.listed(tensor)
    fake.__format__ = lambda tensor, spec: format(values.number(tensor) if tensor.dim() == 0 else repr(tensor), spec)
    fake.numpy = lambda tensor, force=False: values.contents(tensor, "numpy()").numpy(force=True)


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """As ``copy.deepcopy`` makes it of a tensor, which goes by its memory."""
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        as_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if as_parameter else copy
    copied: Tensor = memo[id(tensor)]
    return copied


def _refused(name: str, values: Values) -> Any:
    def refuse(tensor: Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise PredictionError(
            f"the memory of a tensor ({name}){where(values.modules.current())} is asked for, and a prediction's "
            "tensors have none\n"
            "  what to do: for a kernel, predict with torch's own (attn_implementation='sdpa'), or make it a custom "
            "operation (torch.library.custom_op, register_fake); for a checkpoint, predict with saving switched off"
        )

    return refuse
