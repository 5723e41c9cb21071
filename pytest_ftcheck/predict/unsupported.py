"""What cannot be predicted, and what to do about it: which operation, in which module, where in the user's code."""

from __future__ import annotations

import functools
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ..content import is_installed
from ..errors import PredictionError
from .device import CUDA, FAKE_GPU

PACKAGE = Path(__file__).resolve().parents[1]
# Packages whose kernels are no operations of torch, and so have no implementation without contents.
KERNEL_PACKAGES = {
    "bitsandbytes",
    "flash_attn",
    "flash_attn_interface",
    "liger_kernel",
    "triton",
    "unsloth",
    "xformers",
}


# What a user calls the operations that need values, where that is not their name in torch.
READABLE = {
    "aten::_local_scalar_dense": "a tensor as a number or a condition",
    "aten::is_nonzero": "a tensor as a condition",
    "aten::index": "an index by a mask",
    "aten::_unique2": "unique()",
}


def readable(func: Any) -> str:
    """What a user knows ``func`` by, and its name in torch: ``an index by a mask (aten::index)``."""
    name: str = func._schema.name
    return f"{READABLE[name]} ({name})" if name in READABLE else name


def unsupported(func: Any, module: str, error: BaseException) -> PredictionError:
    """``func``, for which torch raised ``error`` on tensors without contents, as an error that says what to do."""
    operation = readable(func)
    if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
        return depends_on_values(operation, module)
    return PredictionError(
        f"{operation}{where(module)} has no implementation for tensors without contents ({first_sentence(error)})\n"
        "  what to do: give a custom operation one with torch.library.register_fake, or predict without it"
    )


def depends_on_values(what: str, module: str = "") -> PredictionError:
    """``what`` needs the values of weights or activations."""
    return PredictionError(
        f"{what}{where(module)} depends on the values of weights or activations, and a prediction has none\n"
        "  what to do: decide by what comes from the data (ids, labels, masks), or choose a form without such a step; "
        "a number that is only logged may be read with .item()"
    )


def foreign_kernel(error: BaseException) -> PredictionError:
    """A kernel that is no operation of torch, or is called where torch shows nothing of it, raised ``error``."""
    whose = f"a kernel of {kernel_package(error)}" if kernel_package(error) else "an operation"
    return PredictionError(
        f"{whose} cannot run on tensors without contents ({first_sentence(error)}){_raised_at(error)}\n"
        "  what to do: predict with what torch itself has in its place (attn_implementation='sdpa', no fused layers)"
    )


def first_sentence(error: BaseException) -> str:
    """The class of ``error`` and its first sentence: torch's go on for pages."""
    line = next(iter(str(error).strip().splitlines()), "").strip()
    sentence = line.partition(". ")[0][:200].replace(FAKE_GPU, CUDA.type)
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__


def place() -> str:
    """Where in the user's own code this is happening, as ``train.py:33``; in a library where none of theirs is running.

    Empty where it is this package itself that asks.
    """
    library = ""
    frame: FrameType | None = sys._getframe(1)
    # What runs the prediction is not what is predicted.
    while frame is not None and frame.f_code.co_filename != str(PACKAGE / "predict" / "dry_run.py"):
        path, owner = Path(frame.f_code.co_filename), _owner(frame.f_code.co_filename)
        if owner == "observer" and not library:
            return ""
        if owner == "user":
            return f"{path.name}:{frame.f_lineno}"
        if owner == "library" and not library:
            library = f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return library


@functools.cache
def _owner(filename: str) -> str:
    """Whose code is in a file: the ``user``'s, a ``library``'s (and not torch's), that of an ``observer`` of ours."""
    path = Path(filename)
    if PACKAGE in path.parents:
        return "observer" if path.parent.name == "observers" else ""
    if path.exists() and not is_installed(path.resolve()):
        return "user"
    return "library" if "site-packages" in path.parts and "torch" not in path.parts else ""


def where(module: str) -> str:
    """The module and the place in the user's code, to follow what happens there."""
    here = place()
    return (f" in {module}" if module else "") + (f", at {here}," if here else "")


def _raised_at(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed(Path(frame.filename).resolve())]
    return f", at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def kernel_package(error: BaseException | None) -> str | None:
    """The package with kernels of its own that ``error`` was raised in, if it was in one."""
    found = None
    trace: Any = error.__traceback__ if error is not None else None
    while trace is not None:
        inside = set(Path(trace.tb_frame.f_code.co_filename).parts) & KERNEL_PACKAGES
        found = next(iter(inside), found)
        trace = trace.tb_next
    return found
