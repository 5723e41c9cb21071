from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config

from pytest_ftcheck.predict import Prediction, autocast, predict_training

from .observed import observed
from .workloads import C_ATTN, FULL


def dtypes(device: str) -> dict[str, str]:
    """Operation -> the dtype of its result under autocast in bfloat16, of inputs in float32 where not named "low"."""
    x, low = torch.zeros(4, 4, device=device), torch.zeros(4, 4, device=device, dtype=torch.bfloat16)
    double, labels = x.double(), torch.zeros(4, dtype=torch.long).to(device)
    heads = torch.zeros(1, 2, 4, 8, device=device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        results = {
            "linear": F.linear(x, x),
            "matmul": x @ x,
            "addmm": torch.addmm(x, x, x),
            "einsum": torch.einsum("ij,jk->ik", x, x),
            "conv1d": F.conv1d(torch.zeros(1, 4, 8, device=device), torch.zeros(4, 4, 1, device=device)),
            "attention": F.scaled_dot_product_attention(heads, heads, heads),
            "layer_norm low": F.layer_norm(low, (4,)),
            "softmax low": low.softmax(-1),
            "cross_entropy low": F.cross_entropy(low, labels),
            "pow low": low**3,
            "sum low": low.sum(),
            "norm low": low.norm(),
            "gelu low": F.gelu(low),
            "add low": low + low,
            "addcmul low and high": torch.addcmul(low, low, x),
            "addcmul low": torch.addcmul(low, low, low),
            "softmax low, asked for": low.softmax(-1, dtype=torch.bfloat16),
            "matmul double": double @ double,
            "embedding": F.embedding(labels, x),
        }
    results["matmul outside"] = x @ x
    return {name: str(result.dtype).removeprefix("torch.") for name, result in results.items()}


HALF = ["linear", "matmul", "addmm", "einsum", "conv1d", "attention"]
# Without a rule of their own: in the dtype that they are given, or asked for.
AS_GIVEN = ("gelu low", "add low", "addcmul low", "softmax low, asked for")


def test_every_class_of_operations_has_cudas_dtype() -> None:
    found = observed(dtypes)
    half = {name for name, dtype in found.items() if dtype == "bfloat16"}

    assert half == {*HALF, *AS_GIVEN}
    assert found.pop("matmul double") == "float64"
    assert set(found.values()) == {"bfloat16", "float32"}


def casts(device: str) -> dict[str, Any]:
    """Whether two uses of a weight share one cast."""
    trained, frozen = (nn.Parameter(torch.zeros(4, 4, device=device), requires_grad=r) for r in (True, False))
    x = torch.zeros(4, 4, device=device, requires_grad=True)

    def weight(parameter: Tensor) -> Tensor:
        kept: Any = F.linear(x, parameter).grad_fn
        while not hasattr(kept, "_saved_mat2"):
            kept = kept.next_functions[0][0]
        saved: Tensor = kept._saved_mat2
        return saved

    def shared(parameter: Tensor) -> bool:
        first, second = weight(parameter), weight(parameter)
        return same(first, second)

    def same(first: Tensor, second: Tensor) -> bool:
        return first.untyped_storage()._cdata == second.untyped_storage()._cdata

    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        found = {"trained": shared(trained), "frozen": shared(frozen)}
        first = weight(trained)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            pass
        found["after an inner one"] = same(weight(trained), first)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        found["after the outermost"] = same(weight(trained), first)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, cache_enabled=False):
        found["without a cache"] = shared(trained)
    return found


def test_the_cast_of_a_trained_weight_is_kept_until_the_outermost_autocast_ends() -> None:
    assert observed(casts) == {
        "trained": True,
        "frozen": False,
        "after an inner one": True,
        "after the outermost": False,
        "without a cache": False,
    }


def spelled_for_cuda(device: str) -> dict[str, str]:
    x = torch.zeros(4, 4, device=device)
    found = {}
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found["torch.autocast, bfloat16"] = str((x @ x).dtype)
    with torch.autocast("cuda"):
        found["torch.autocast"] = str((x @ x).dtype)
        found["is enabled"] = str(torch.is_autocast_enabled())
    with torch.cuda.amp.autocast():
        found["torch.cuda.amp.autocast"] = str((x @ x).dtype)
    with torch.autocast("cuda", enabled=False):
        found["switched off"] = str((x @ x).dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found["for the cpu"] = str((x @ x).dtype)
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_autocast_for_cuda_acts_on_the_fake_gpu() -> None:
    assert observed(spelled_for_cuda) == {
        "torch.autocast, bfloat16": "torch.bfloat16",
        "torch.autocast": "torch.float16",
        "is enabled": "True",
        "torch.cuda.amp.autocast": "torch.float16",
        "switched off": "torch.float32",
        "for the cpu": "torch.float32",
    }


@pytest.mark.parametrize("device", [None, "cuda"])
def test_a_gradient_scaler_scales_and_steps(device: str | None) -> None:
    def scaled(name: str) -> list[Any]:
        model = nn.Linear(4, 4).to(name)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler(**({"device": device} if device else {}))
        with torch.autocast("cuda"):
            loss = model(torch.zeros(2, 4, device=name)).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return [scaler.is_enabled(), scaler.get_scale(), str(loss.dtype)]

    assert observed(scaled) == [True, 65536.0, "torch.float32"]


def test_an_operation_that_is_unsafe_raises_as_on_cuda() -> None:
    def unsafe(device: str) -> str:
        x = torch.zeros(4, device=device)
        with torch.autocast(torch.device(device).type):
            try:
                F.binary_cross_entropy(x, x)
            except RuntimeError as error:
                return str(error)
        return "nothing"

    assert "unsafe to autocast" in observed(unsafe)


HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"


@pytest.mark.skipif(not HEADER.exists(), reason="this torch comes without its headers")
@pytest.mark.parametrize(
    ("macro", "names"),
    [
        ("AT_FORALL_LOWER_PRECISION_FP", autocast.HALF),
        ("AT_FORALL_FP32", autocast.FLOAT32),
        ("AT_FORALL_FP32_SET_OPT_DTYPE", autocast.FLOAT32_RESULT),
        ("AT_FORALL_PROMOTE", autocast.WIDEST),
    ],
)
def test_the_lists_are_those_of_the_installed_torch(macro: str, names: str) -> None:
    lines = HEADER.read_text(encoding="utf-8").partition(f"#define {macro}(_)")[2].partition("\n\n")[0]
    theirs = {".".join(filter(None, found)) for found in re.findall(r"_\((\w+)(?:, (\w+))?\)", lines)}

    assert theirs - {"_convolution.deprecated"} == set(names.split())


def small() -> GPT2Config:
    """Weights enough for the casts of frozen ones to be seen; every tensor a multiple of 512 bytes."""
    return GPT2Config(n_layer=2, n_embd=128, n_head=4, vocab_size=512, n_positions=64, bos_token_id=0, eos_token_id=0)


@functools.cache
def gpt2(method: str = "full", **settings: Any) -> Prediction:
    """Two rows of 32 tokens on an A100."""
    chosen = {"full": FULL, "lora": C_ATTN}[method]
    return predict_training(model=small(), method=chosen, batch_size=2, sequence_length=32, gpu="a100", **settings)


# c_attn, c_proj, c_fc and mlp.c_proj of each layer, and the head.
MATRICES = 2 * (3 + 1 + 4 + 4) * 128 * 128 + 512 * 128


def casts_of_weights(prediction: Prediction) -> int:
    """Bytes of casts to bfloat16 that the projections hold at the highest point of the forward pass."""
    held = prediction.moment("forward").held
    names = ("c_attn", "c_proj", "c_fc", "lm_head")
    return sum(
        one.bytes
        for one in held
        if one.op == "aten::_to_copy" and one.dtype == "bfloat16" and one.module.rpartition(".")[2] in names
    )


def test_under_an_adapter_every_frozen_weight_is_kept_twice() -> None:
    """Once in float32, and once more as the cast that the backward pass needs: autocast saves LoRA little."""
    assert casts_of_weights(gpt2("lora", autocast="bfloat16")) >= MATRICES * 2 * 0.75
    assert casts_of_weights(gpt2("lora")) == 0


def test_logits_are_in_half_precision_under_autocast() -> None:
    def logits(prediction: Prediction) -> set[str]:
        return {one.dtype for one in prediction.moment("forward").held if one.module == "lm_head" and "mm" in one.op}

    assert logits(gpt2(autocast="bfloat16", keep_output=True)) == {"bfloat16"}
    assert logits(gpt2(keep_output=True)) == {"float32"}


def test_a_model_in_bfloat16_needs_less_than_one_that_is_autocast() -> None:
    assert gpt2("lora", dtype="bfloat16").peak_bytes < gpt2("lora", autocast="bfloat16").peak_bytes


def test_autocast_leaves_weights_gradients_and_states_in_float32() -> None:
    plain, cast = gpt2().memory, gpt2(autocast="bfloat16").memory

    for category in ("weights_bytes", "gradients_bytes", "optimizer_bytes"):
        assert getattr(plain, category) == getattr(cast, category), category


def test_checkpointing_recomputes_under_the_same_autocast() -> None:
    without = gpt2("lora", autocast="bfloat16")
    with_it = gpt2("lora", autocast="bfloat16", gradient_checkpointing=True)

    assert with_it.memory.activations_bytes < without.memory.activations_bytes
    assert with_it.flops.backward > without.flops.backward
