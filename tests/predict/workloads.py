"""Models, and predictions that several tests look at: each is made once in a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import GPT2Config, LlamaConfig

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.methods import Method
from pytest_ftcheck.predict import Prediction, predict_training

C_ATTN = LoRA(r=8, alpha=16, target_modules=["c_attn"])
Q_AND_V = LoRA(r=8, alpha=16, target_modules=["q_proj", "v_proj"])
ALL_LINEAR = LoRA(r=8, alpha=16, target_modules="all-linear")
FULL = Full()

_MADE: dict[str, Prediction] = {}


def predicted(config: Callable[[], Any], method: Method, **settings: Any) -> Prediction:
    """``predict_training`` of a configuration, with the settings given."""
    key = f"{config.__qualname__} {method!r} {sorted(settings.items())}"
    if key not in _MADE:
        _MADE[key] = predict_training(model=config(), method=method, **settings)
    return _MADE[key]


def gpt2_124m(dropout: float = 0.1) -> GPT2Config:
    return GPT2Config(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)


def small_gpt2(dropout: float = 0.1) -> GPT2Config:
    """GPT-2 in everything but size."""
    return GPT2Config(
        n_layer=2,
        n_embd=256,
        n_head=8,
        vocab_size=8000,
        bos_token_id=1,
        eos_token_id=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )


def small_llama(dropout: float = 0.0) -> LlamaConfig:
    """Llama 3 in everything but size: half as many key heads as query heads, an untied head."""
    return LlamaConfig(
        vocab_size=8000,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        attention_dropout=dropout,
    )


def tiny_llama(key_value_heads: int = 4) -> LlamaConfig:
    """The smallest in which every tensor is still a multiple of 512 bytes, as CUDA's allocator hands them out. Of its
    four heads so many have keys and values of their own.
    """
    return LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
    )


def llama_100m(dropout: float = 0.0) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
        attention_dropout=dropout,
    )


def llama_8b() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    )
