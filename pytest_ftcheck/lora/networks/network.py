"""Tiny models of the usual architectures, and attention alone."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..bases.random import generator, normal

VOCABULARY, LENGTH = 11, 5


@dataclass(frozen=True)
class Network:
    """``layers`` blocks, ``width`` wide, of an architecture of transformers: one of ARCHITECTURES."""

    architecture: str
    layers: int = 1
    width: int = 8

    kind = "model"
    groups = 1

    @property
    def targets(self) -> tuple[str, ...]:
        """Endings of the names of what LoRA is put on."""
        return ARCHITECTURES[self.architecture].targets

    @property
    def saved(self) -> tuple[str, ...]:
        """Names of what ``modules_to_save`` can train a copy of."""
        return ARCHITECTURES[self.architecture].saved

    def plan(self) -> nn.Module:
        """A model of which only the structure counts; everybody is given the same."""
        return _built(self.architecture, self.layers, self.width)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        """The model in evaluation mode, with weights from a normal distribution and no dropout."""
        model: nn.Module = copy.deepcopy(self.plan())
        return with_random_weights(model, seed).to(dtype).eval()

    def inputs(self, rows: int, dtype: torch.dtype, seed: int) -> tuple[Any, ...]:
        """Tokens (rows, 5), as the model's arguments by position."""
        tokens = torch.randint(VOCABULARY, (rows, LENGTH), generator=generator(seed))
        return (tokens, None, tokens) if self.architecture == "T5" else (tokens,)

    def output(self, found: Any) -> Tensor:
        """The logits in what a model returns."""
        logits: Tensor = found.logits
        return logits

    def __str__(self) -> str:
        return f"{self.architecture}({self.layers} layers, {self.width} wide)"


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """``model`` with weights from a normal distribution, so small that no softmax saturates; gives ``model``."""
    parameters = dict(model.named_parameters())
    drawn = 0.3 * torch.randn(sum(one.numel() for one in parameters.values()), generator=generator(seed))
    with torch.no_grad():
        numbers = torch.split(drawn, [one.numel() for one in parameters.values()])
        for (name, parameter), values in zip(parameters.items(), numbers, strict=True):
            # A norm multiplies by its weight: one near zero would hide what comes before it.
            parameter.copy_(values.view_as(parameter) + float(parameter.dim() == 1 and name.endswith("weight")))
    return model


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence with itself."""

    def __init__(self, width: int, heads: int, has_bias: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, bias=has_bias, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


@dataclass(frozen=True)
class Attention:
    """``nn.MultiheadAttention`` with a packed projection, (*rows, 5, heads · size) to the same."""

    heads: int = 1
    size: int = 2
    has_bias: bool = True

    kind = "attention"
    groups = 1
    layers = 1
    targets: ClassVar[tuple[str, ...]] = ("attention",)
    saved: ClassVar[tuple[str, ...]] = ()

    def plan(self) -> nn.Module:
        return SelfAttention(self.heads * self.size, self.heads, self.has_bias)

    def build(self, dtype: torch.dtype, seed: int) -> nn.Module:
        return with_random_weights(self.plan(), seed).to(dtype).eval()

    def inputs(self, rows: int, dtype: torch.dtype, seed: int) -> tuple[Any, ...]:
        return (normal((rows, LENGTH, self.heads * self.size), dtype, seed),)

    def output(self, found: Any) -> Tensor:
        output: Tensor = found
        return output

    def __str__(self) -> str:
        return f"MultiheadAttention({self.heads} heads of {self.size}{'' if self.has_bias else ', no bias'})"


@dataclass(frozen=True)
class Architecture:
    """``make(layers, width)`` builds a model of it; the rest is as in ``Network``."""

    make: Callable[[int, int], nn.Module]
    targets: tuple[str, ...]
    saved: tuple[str, ...]


# Nobody stops a generation of these: no token has a meaning.
_TOKENS: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def _gpt2(layers: int, width: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(n_embd=width, n_layer=layers, n_head=2, n_positions=LENGTH, **_TOKENS, **dropout)
    return GPT2LMHeadModel(config)


def _llama(layers: int, width: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_decoder(layers, width)))


def _mixtral(layers: int, width: int) -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    # Every expert is chosen for every token: rounding would otherwise choose another one now and then.
    # The faster ways to compute them know no float64.
    experts: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 2, "experts_implementation": "eager"}
    return MixtralForCausalLM(MixtralConfig(**_decoder(layers, width), **experts))


def _decoder(layers: int, width: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": width + 4, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": LENGTH}
    return {**sizes, **heads, **_TOKENS}


def _t5(layers: int, width: int) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {
        "d_model": width,
        "d_kv": width // 2,
        "d_ff": width + 4,
        "num_layers": layers,
        "num_heads": 2,
    }
    tokens = {**_TOKENS, "pad_token_id": 0, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(**sizes, **tokens, dropout_rate=0.0))


def _bert(layers: int, width: int) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": width + 4, "num_hidden_layers": layers}
    dropout: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tokens = {**_TOKENS, "pad_token_id": 0}
    config = BertConfig(**sizes, **tokens, **dropout, num_attention_heads=2, max_position_embeddings=LENGTH)
    return BertForSequenceClassification(config)


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
# Simplest first. Of GPT-2 and T5, the embedding is the head's weight too.
ARCHITECTURES: Mapping[str, Architecture] = {
    "Llama": Architecture(_llama, (*_PROJECTIONS, "gate_proj", "down_proj"), ("lm_head",)),
    "GPT-2": Architecture(_gpt2, ("c_attn", "c_fc", "attn.c_proj", "wte"), ("ln_f",)),
    "BERT": Architecture(_bert, ("query", "value", "intermediate.dense", "word_embeddings"), ("classifier",)),
    "T5": Architecture(_t5, ("q", "v", "wi", "wo"), ("final_layer_norm",)),
    "Mixtral": Architecture(_mixtral, _PROJECTIONS, ("lm_head",)),
}


@functools.cache
def _built(architecture: str, layers: int, width: int) -> nn.Module:
    """A copy takes half as long as making a model anew."""
    return ARCHITECTURES[architecture].make(layers, width)
