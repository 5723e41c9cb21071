"""The kernel that torch would choose, on tensors without contents: the choice looks at shapes and dtypes only."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytest_ftcheck.predict import kernel_choice
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.kernel_choice import Call, chosen_kernel

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
# Rules of a version of torch are tested for that version, whichever is installed.
TORCH = (2, 13)


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "VERSION", TORCH)
    # And as without a cuDNN here.
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    monkeypatch.delenv("TORCH_CUDNN_SDPA_DEPRIORITIZED", raising=False)


def a_call(dtype: torch.dtype = BF16, *, size: int = 64, heads: int = 4, shared: int = 4, **changes: Any) -> Call:
    """A call with ``heads`` heads of the query and ``shared`` of key and value, of ``size`` elements."""
    masked, keys = changes.pop("masked", None), changes.pop("keys", 16)
    query = torch.empty(2, heads, 16, size, dtype=dtype, device="meta", requires_grad=True)
    key, value = (torch.empty(2, shared, keys, size, dtype=dtype, device="meta") for _ in range(2))
    mask = torch.empty(masked, dtype=torch.bool, device="meta") if masked else None
    return Call(query, key, value, mask, grouped=heads != shared, **changes)


MASK = (2, 1, 16, 16)


@pytest.mark.parametrize(
    ("gpu", "call", "kernel"),
    [
        ("h100", a_call(), "cudnn"),
        ("h200", a_call(FP16), "cudnn"),
        ("h100", a_call(masked=MASK), "cudnn"),
        ("h100", a_call(shared=2), "cudnn"),
        ("h100", a_call(size=256), "cudnn"),
        ("h100", a_call(dropout=0.125), "cudnn"),
        ("h100", a_call(dropout=0.1), "flash"),
        ("h100", a_call(size=60), "flash"),
        ("h100", a_call(masked=(2, 16, 16)), "efficient"),
        ("h100", a_call(FP32), "efficient"),
        ("h100", a_call(FP32, shared=2), "math"),
        ("h100", a_call(FP32, masked=MASK), "efficient"),
        ("a100", a_call(), "flash"),
        ("a100", a_call(shared=2), "flash"),
        ("a100", a_call(masked=MASK), "efficient"),
        ("a100", a_call(masked=MASK, shared=2), "math"),
        ("a100", a_call(size=60), "flash"),
        ("a100", a_call(size=60, masked=MASK), "math"),
        ("a100", a_call(size=264), "efficient"),
        ("a100", a_call(size=256), "flash"),
        ("a100", a_call(causal=True), "flash"),
        ("a100", a_call(causal=True, keys=24), "efficient"),
        ("a100", a_call(FP32, size=60), "efficient"),
        ("a100", a_call(FP32, size=62), "math"),
        ("a100", a_call(torch.float64), "math"),
        ("l40s", a_call(size=192), "flash"),
        ("l40s", a_call(size=200), "efficient"),
        ("l40s", a_call(size=256), "flash"),
        ("l40s", a_call(size=256, dropout=0.1), "efficient"),
        ("t4", a_call(FP16), "efficient"),
        ("t4", a_call(BF16), "math"),
        ("t4", a_call(FP32, size=62), "efficient"),
    ],
)
def test_each_gpu_takes_the_kernel_of_torchs_rules(gpu: str, call: Call, kernel: str) -> None:
    assert chosen_kernel(GPUS[gpu], call) == kernel


def test_heads_that_are_not_declared_as_shared_are_left_to_the_plain_kernel() -> None:
    shared = a_call(shared=2)
    undeclared = Call(*shared.tensors, grouped=False)

    assert chosen_kernel(GPUS["a100"], shared) == "flash"
    assert chosen_kernel(GPUS["a100"], undeclared) == "math"


def test_large_heads_are_refused_only_where_there_is_a_backward_pass() -> None:
    with torch.no_grad():
        assert chosen_kernel(GPUS["l40s"], a_call(size=200)) == "flash"
    assert chosen_kernel(GPUS["l40s"], a_call(size=200)) == "efficient"


def test_a_newer_torch_shares_heads_in_the_efficient_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    call = a_call(FP32, shared=2)

    assert chosen_kernel(GPUS["a100"], call) == "math"
    monkeypatch.setattr(kernel_choice, "VERSION", (2, 14))
    assert chosen_kernel(GPUS["a100"], call) == "efficient"


def test_an_older_torch_asks_cudnn_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "VERSION", (2, 10))

    assert chosen_kernel(GPUS["h100"], a_call()) == "flash"


def test_the_environment_can_put_cudnn_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1")

    assert chosen_kernel(GPUS["h100"], a_call()) == "flash"


def test_kernels_that_the_program_switched_off_are_not_chosen() -> None:
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        assert chosen_kernel(GPUS["h100"], a_call()) == "efficient"
    assert chosen_kernel(GPUS["h100"], a_call()) == "cudnn"


def test_where_no_kernel_is_left_torchs_own_error_is_raised() -> None:
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]), pytest.raises(RuntimeError, match="No available kernel"):
        chosen_kernel(GPUS["t4"], a_call(FP16))


@pytest.mark.parametrize(("strict", "kernel"), [(True, "flash"), (False, "cudnn")])
def test_cudnn_is_not_deterministic(strict: bool, kernel: str) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        torch.use_deterministic_algorithms(True, warn_only=not strict)
        assert chosen_kernel(GPUS["h100"], a_call()) == kernel


@pytest.mark.parametrize(
    ("installed", "kernel"), [(91002, "flash"), (91500, "flash"), (91501, "cudnn"), (91900, "cudnn")]
)
def test_the_cudnn_that_is_installed_decides_whether_it_is_asked_first(
    installed: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of one torch for CUDA 12 and for CUDA 13 have different ones."""
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: installed)
    assert chosen_kernel(GPUS["h100"], a_call()) == kernel
