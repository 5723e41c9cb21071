"""The trainings on which predictions are held to a real GPU.

Every switch is there alone, from one base, for a GPT-2 and a Llama, in full and with LoRA on all linear layers; the
other sizes and adapters have the base, and what changes memory most. All 768 combinations would take hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from predict.accuracy import Figure
from predict.workloads import gpt2_124m, llama_8b
from transformers import GPT2Config, LlamaConfig

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.methods import Method
from pytest_ftcheck.predict import Prediction
from pytest_ftcheck.predict.workload import Workload

# What the project promises of the allocator's peaks: torch.cuda.memory_stats()["active_bytes.all.peak"] and so on.
LIMITS = {"active_bytes": 0.02, "allocated_bytes": 0.03, "reserved_bytes": 0.10}


@dataclass(frozen=True)
class Model:
    """A configuration, which of its layers are attention, and two shapes of a batch: rows and tokens."""

    config: Any
    attention: tuple[str, ...]
    shapes: tuple[tuple[int, int], tuple[int, int]]


def gpt2_355m() -> GPT2Config:
    return GPT2Config(n_layer=24, n_head=16, n_embd=1024)


def llama_1b() -> LlamaConfig:
    """The shape of Llama 3.2 1B: the head is the embedding."""
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )


MODELS = {
    "gpt2-124m": Model(gpt2_124m, ("c_attn",), ((4, 128), (8, 512))),
    "gpt2-355m": Model(gpt2_355m, ("c_attn",), ((4, 128), (8, 512))),
    "llama-1b": Model(llama_1b, ("q_proj", "k_proj", "v_proj", "o_proj"), ((2, 512), (1, 2048))),
    "llama-8b": Model(llama_8b, ("q_proj", "k_proj", "v_proj", "o_proj"), ((1, 2048), (4, 512))),
}
SWITCHES: dict[str, dict[str, Any]] = {
    "base": {},
    "float32": {"dtype": "float32"},
    "autocast": {"dtype": "float32", "autocast": "bfloat16"},
    "checkpointing": {"gradient_checkpointing": True},
    "eager": {"attention": "eager"},
    "fused": {"optimizer": "adamw-fused"},
    "padded": {"padded": True},
    "other-shape": {"shape": 1},
}
EVERY = tuple(SWITCHES)
PARTS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("gpt2-124m", "llama-1b"), ("full", "all-linear"), EVERY),
    (("gpt2-124m", "llama-1b"), ("attention", "dora"), ("base", "checkpointing")),
    (("gpt2-355m", "llama-8b"), ("full", "all-linear"), ("base", "checkpointing", "fused")),
)


def grid() -> dict[str, Workload]:
    """Name of a cell -> its training."""
    return dict(_cells())


def figures(predicted: Prediction, measured: dict[str, int]) -> tuple[Figure, ...]:
    """The allocator's peaks, predicted and measured."""
    return tuple(Figure(name, getattr(predicted, name), measured[name], limit) for name, limit in LIMITS.items())


def _cells() -> Iterator[tuple[str, Workload]]:
    for models, methods, switches in PARTS:
        for model in models:
            for method in methods:
                for switch in switches:
                    yield f"{model} {method} {switch}", _workload(MODELS[model], method, **SWITCHES[switch])


def _workload(model: Model, method: str, shape: int = 0, **settings: Any) -> Workload:
    rows, length = model.shapes[shape]
    return Workload(
        model=model.config(),
        method=_method(model, method),
        batch_size=rows,
        sequence_length=length,
        **{"dtype": "bfloat16", **settings},
    )


def _method(model: Model, method: str) -> Method:
    if method == "full":
        return Full()
    targets = list(model.attention) if method == "attention" else "all-linear"
    return LoRA(r=16, alpha=32, target_modules=targets, use_dora=method == "dora")
