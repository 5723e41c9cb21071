"""What to tell somebody whose training failed: how far it came, where, and what to change."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from .content import is_installed

# What torch's allocator for the CPU says, in errors that are plain RuntimeErrors: where it is raised, and on Windows.
ON_CPU = ("alloc_cpu.cpp", "not enough memory")

if TYPE_CHECKING:
    from .observers.trace import Trace
    from .recipe import Job


def wrong_number_of_updates(method: str, updates: int, steps: int) -> str:
    """The training ended without an error, and not at the horizon."""
    if updates == 0:
        return (
            f"{method}: train(job) made 0 of {steps} updates\n"
            "  likely cause: no optimizer that holds a parameter of job.model has stepped (an empty data loader, an "
            "optimizer over another model's parameters, or another model, without job.replace_model)"
        )
    return (
        f"{method}: train(job) made {updates} updates; the recipe's horizon is {steps}\n"
        "  likely cause: the loop does not take its length from job.steps (a Trainer: max_steps=job.steps), or a "
        "GradScaler skipped updates that overflowed, which is not supported yet"
    )


def no_update(method: str, steps: int, trace: Trace, foreign_steps: int) -> str:
    """The training ended without an error and without an update, and this is what was seen of it instead.
    ``foreign_steps`` are those of optimizers that hold no parameter of the model.
    """
    called, backwards = len(trace.unanswered) + len(trace.evaluations), len(trace.unfinished)
    if foreign_steps:
        seen = f"{foreign_steps} steps of an optimizer that holds no parameter of job.model"
        cause = "another model, or a copy, trains (say so with job.replace_model), or the optimizer is older than it"
    elif backwards:
        seen = f"{backwards} backward passes, and no step of an optimizer"
        cause = "optimizer.step() is not reached: an accumulation longer than the data, or every update is skipped"
    elif trace.unanswered:
        seen = f"{called} calls of job.model, and no backward pass"
        cause = "loss.backward() is never called"
    elif called:
        seen = f"{called} calls of job.model, all without recording gradients"
        cause = "the loop runs under torch.no_grad() or inference_mode()"
    else:
        seen = "job.model was never called"
        cause = "an empty data loader, or another model is trained: say so with job.replace_model"
    return f"{method}: train(job) made 0 of {steps} updates: {seen}\n  likely cause: {cause}"


def raised_in_train(job: Job, method: str, updates: int, error: BaseException) -> str:
    """The user's loop raised ``error``."""
    trainable = sum(p.numel() for p in job.model.parameters() if p.requires_grad)
    return (
        f"{method}: train(job) raised {one_line(error)} after {updates} of {job.steps} updates, "
        f"with {trainable:,} trainable parameters{_place(error)}"
        + ("" if trainable else "\n  likely cause: the adapter or model is frozen")
    )


def one_line(error: BaseException) -> str:
    """The error's type and the first line of its text."""
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else ""


def _place(error: BaseException) -> str:
    """Where in the user's own code it was raised, or what of theirs called what raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed(Path(frame.filename).resolve())]
    return f"\n  at {own[-1].filename}:{own[-1].lineno} in {own[-1].name}" if own else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device, or the host, has no memory left."""
    import torch

    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in ON_CPU)


def out_of_memory(job: Job, method: str, updates: int, error: BaseException) -> str:
    """The error's first line with numbers, what the training holds in any case, and what to change. ``error`` is the
    one of the chain that says so.
    """
    from .theory.memory import static_bytes

    parameters = list(job.model.parameters())
    trainable = [p for p in parameters if p.requires_grad]
    static = static_bytes(
        trainable=sum(p.numel() for p in trainable),
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        dtype=job.dtype,
        trainable_tensors=len(trainable),
    )
    rows = job.batch_size * job.accumulation
    advice = [f"batch_size={max(1, job.batch_size // 2)} with accumulation={rows // max(1, job.batch_size // 2)}"]
    advice += ["gradient checkpointing", "shorter rows", "dtype='bfloat16'" if job.dtype == "float32" else ""]
    return (
        f"{method}: out of memory on {job.device} after {updates} of {job.steps} updates "
        f"({_first_line(error)}){_place(error)}\n"
        f"  held whatever the batch is, with AdamW: {_mib(static.total)} = weights {_mib(static.weights)} + gradients "
        f"{_mib(static.gradients)} + optimizer {_mib(static.optimizer)}; the rest is activations of a batch of "
        f"{job.batch_size} rows\n"
        f"  what to change: {', '.join(filter(None, advice))}"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
