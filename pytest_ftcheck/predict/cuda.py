"""``torch.cuda`` as a training would find it on the GPU that is predicted for.

Training code asks it what there is (and chooses dtypes, kernels and optimizers by that), reads its memory to log it,
and waits for it. All of this is answered here for one GPU, of whose memory the dry run's live tensors are in use.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..observers.memory import LiveBytes
from .device import CUDA, FAKE_GPU, is_gpu
from .gpu import Gpu

# For a torch that was built without: what its releases for GPUs are built with.
CUDA_VERSION = "12.8"
# Of CUDA's allocator, whose history there is none of.
HISTORY = ("_record_memory_history", "_dump_snapshot", "_snapshot")

Answers = dict[str, Callable[..., Any]]


def pretend_cuda(gpu: Gpu, log: LiveBytes) -> None:
    """Let ``torch.cuda`` and ``torch.accelerator`` tell of ``gpu``, and autocast for ``cuda`` be that of the fake GPU;
    for good.
    """
    memory, generators = _memory(gpu, log), _generators()
    _answer(torch.cuda, {**_what_there_is(gpu), **memory, **generators, **_streams()})
    _answer(torch.cuda.memory, {**memory, **dict.fromkeys(HISTORY, _nothing)})
    _answer(torch.cuda.random, generators)
    _answer(torch.cuda.nvtx, dict.fromkeys(("range_push", "range_pop", "mark"), _nothing))
    _answer(torch.accelerator, {**memory, **_streams(), "current_accelerator": _always(CUDA)})
    _answer(torch, {**_autocast(), "Generator": _Generator})
    torch.version.cuda = torch.version.cuda or CUDA_VERSION


def _answer(module: Any, answers: Answers) -> None:
    for name, answer in answers.items():
        # Not every torch has every one of them.
        if hasattr(module, name):
            setattr(module, name, answer)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Nothing is ever under way, cached or drawn."""


def _always(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _what_there_is(gpu: Gpu) -> Answers:
    major, minor = gpu.capability
    properties = types.SimpleNamespace(
        name=gpu.name,
        major=major,
        minor=minor,
        total_memory=gpu.memory_bytes,
        multi_processor_count=gpu.multiprocessors,
        gcnArchName="",
    )
    return {
        **dict.fromkeys(("_lazy_init", "init", "set_device"), _nothing),
        "is_available": _always(True),
        "device_count": _always(1),
        "current_device": _always(0),
        "get_device_name": _always(gpu.name),
        "get_device_capability": _always(gpu.capability),
        "get_device_properties": _always(properties),
        "get_arch_list": _always([f"sm_{major}{minor}"]),
        "is_bf16_supported": lambda including_emulation=True: including_emulation or not gpu.emulates_bfloat16,
        "is_tf32_supported": _always(not gpu.emulates_bfloat16),
    }


def _memory(gpu: Gpu, log: LiveBytes) -> Answers:
    """In bytes, of live tensors: the allocator's own figures are known only after the dry run."""
    since = 0

    def allocated(*args: Any, **kwargs: Any) -> int:
        return sum(event.bytes for event in log.events)

    def highest(*args: Any, **kwargs: Any) -> int:
        total = peak = 0
        for index, event in enumerate(log.events):
            total += event.bytes
            peak = max(peak, total) if index >= since else total
        return max(peak, total)

    def reset(*args: Any, **kwargs: Any) -> None:
        nonlocal since
        since = len(log.events)

    def stats(*args: Any, **kwargs: Any) -> dict[str, int]:
        figures = {"current": allocated(), "peak": highest()}
        kinds = ("allocated", "reserved", "active")
        return {f"{kind}_bytes.all.{when}": size for kind in kinds for when, size in figures.items()}

    def free_and_total(*args: Any, **kwargs: Any) -> tuple[int, int]:
        return gpu.memory_bytes - allocated(), gpu.memory_bytes

    return {
        **dict.fromkeys(("memory_allocated", "memory_reserved", "device_memory_used"), allocated),
        **dict.fromkeys(("max_memory_allocated", "max_memory_reserved"), highest),
        **dict.fromkeys(("reset_peak_memory_stats", "reset_max_memory_allocated"), reset),
        **dict.fromkeys(("empty_cache", "reset_accumulated_memory_stats", "set_per_process_memory_fraction"), _nothing),
        **dict.fromkeys(("mem_get_info", "get_memory_info"), free_and_total),
        "memory_stats": stats,
        "memory_summary": lambda *args, **kwargs: f"{allocated():,} bytes in live tensors",
    }


def _generators() -> Answers:
    """There are no random numbers to draw, and so no state; CUDA's has 16 bytes, on the CPU."""

    def state(*args: Any, **kwargs: Any) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    return {
        **dict.fromkeys(("manual_seed", "manual_seed_all", "seed", "seed_all"), _nothing),
        **dict.fromkeys(("set_rng_state", "set_rng_state_all"), _nothing),
        "get_rng_state": state,
        "get_rng_state_all": lambda: [state()],
        "initial_seed": _always(0),
    }


class _Generator(torch.Generator):
    """For a GPU, the CPU's: nothing is drawn from it."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made: _Generator = super().__new__(cls, "cpu" if is_gpu(device) else device)  # type: ignore[call-arg]
        return made


class _Instant:
    """A stream or an event: everything has always happened already."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device, self.stream_id, self.cuda_stream = CUDA, 0, 0

    def elapsed_time(self, end: Any) -> float:
        return 0.0

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    record = wait = synchronize = wait_stream = wait_event = record_event = _nothing


def _streams() -> Answers:
    @contextlib.contextmanager
    def on(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    return {
        **dict.fromkeys(("synchronize", "ipc_collect", "set_stream", "set_device_index"), _nothing),
        **dict.fromkeys(("current_stream", "default_stream"), lambda *_: _Instant()),
        **dict.fromkeys(("Stream", "Event", "ExternalStream"), _Instant),
        **dict.fromkeys(("stream", "device", "device_of", "device_index"), on),
        "is_current_stream_capturing": _always(False),
    }


def _autocast() -> Answers:
    """torch's functions for autocast, of which ``cuda`` (also where no device is named) means the fake GPU."""
    answers: Answers = {}
    for name in ("is_autocast_enabled", "set_autocast_enabled", "get_autocast_dtype", "set_autocast_dtype"):
        answers[name] = _for_the_fake_gpu(getattr(torch, name))
    dtype, set_dtype = answers["get_autocast_dtype"], answers["set_autocast_dtype"]
    answers["get_autocast_gpu_dtype"] = lambda: dtype(CUDA.type)
    answers["set_autocast_gpu_dtype"] = lambda value: set_dtype(CUDA.type, value)
    return answers


def _for_the_fake_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def redirected(*args: Any, **kwargs: Any) -> Any:
        if "device_type" in kwargs:
            args = (kwargs["device_type"], *args)
        elif not args or isinstance(args[0], bool):
            args = (CUDA.type, *args)
        device, *rest = args
        return function(FAKE_GPU if is_gpu(device) else device, *rest)

    return redirected
