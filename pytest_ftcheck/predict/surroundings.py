"""What a real GPU would bring about by itself, done to torch in the process of a dry run, and never undone."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import optimizer as optimizers
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _foreach_utils, data
from torch.utils._device import DeviceContext

from .accumulation import Accumulation
from .attention import let_masks_be_left_out, route_attention
from .autocast import route_autocast
from .cuda import pretend_cuda
from .device import FakeDevice, is_gpu
from .experts import let_experts_run
from .gpu import Gpu
from .norm import route_norm
from .placement import let_modules_move
from .softmax import route_softmax
from .tensors import answer_for_contents, show_as_cuda
from .timeline import Timeline


def prepare_process(gpu: Gpu, device: FakeDevice, timeline: Timeline) -> list[Any]:
    """Make this process one in which a training finds ``device``. What is returned must be kept."""
    # On a device of its own the backward pass would run in a thread, which sees no dispatch mode.
    torch.autograd.set_multithreading_enabled(False)
    let_modules_move(timeline.values)
    answer_for_contents(timeline.values)
    _load_data_in_this_process()
    _leave_out_compilation(timeline)
    let_experts_run()
    let_masks_be_left_out()
    if device.type == "cpu":
        # What is predicted for a CPU is held to trainings that a dispatch mode watches, in which no sum is in place.
        return []
    timeline.accumulation = Accumulation(device)
    # Both choose the kernels that take many tensors at once by the exact type of these.
    for supported in (optimizers._foreach_supported_types, _foreach_utils._foreach_supported_types):
        supported.append(FakeTensor)
    # transformers would load weights onto a GPU in threads, which see no dispatch mode.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    show_as_cuda(device)
    pretend_cuda(gpu, timeline)
    for name in ("tensor", "as_tensor", "asarray"):
        setattr(torch, name, _made_on_the_cpu_first(getattr(torch, name)))
    return [route_attention(gpu), route_norm(), route_softmax(), *route_autocast(device)]


def _load_data_in_this_process() -> None:
    """What workers and page-locked memory do for speed changes no batch, and would cost processes and threads here."""

    def in_this_process(loader: Any) -> Any:
        vars(loader).update(num_workers=0, pin_memory=False, timeout=0, prefetch_factor=None, persistent_workers=False)
        # A loader of an attribute of that name keeps its number of workers there.
        vars(loader)["_DataLoader__multiprocessing_context"] = None
        return data.dataloader._SingleProcessDataLoaderIter(loader)

    loader: Any = data.DataLoader
    loader._get_iterator = in_this_process


def _leave_out_compilation(timeline: Timeline) -> None:
    """Predict the eager step of what ``torch.compile`` would compile, and say so."""

    def compile(model: Any = None, **settings: Any) -> Any:
        timeline.values.assumptions["torch.compile"] = "predicted as if it was not compiled"
        return model if model is not None else lambda function: function

    def compile_in_place(module: torch.nn.Module, *args: Any, **settings: Any) -> None:
        compile(module)

    patched: Any = torch
    patched.compile, patched.nn.Module.compile = compile, compile_in_place


def _made_on_the_cpu_first(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` and its like copy to the device where no dispatch mode sees it."""

    @functools.wraps(make)
    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        wanted = device if device is not None else _default_device()
        if not is_gpu(wanted) or (args and isinstance(args[0], FakeTensor)):
            return make(*args, device=device, **kwargs)
        requires_grad = kwargs.pop("requires_grad", False)
        return make(*args, device="cpu", **kwargs).to(wanted).requires_grad_(requires_grad)

    return made


def _default_device() -> torch.device | None:
    """Set by ``torch.set_default_device``, or by a device as a context."""
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    contexts = [mode.device for mode in modes if isinstance(mode, DeviceContext)]
    return contexts[-1] if contexts else None
