"""The parts of a decoder that its floating-point operations depend on, and where a model keeps them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import RecipeError
from .targets import linear_layers

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Decoder:
    """The names of a decoder's parts; those of a block's parts are relative to the block.

    A block is x + output(attention(queries, keys, values(norm(x)))), and then x + down(f(up(norm(x)))). ``queries``,
    ``keys`` and ``values`` are one layer where they are fused; ``up`` is two layers where the MLP is gated.
    """

    embeddings: tuple[str, ...]
    blocks: str
    attention_norm: str
    queries: str
    keys: str
    values: str
    attention_output: str
    mlp_norm: str
    up: tuple[str, ...]
    down: str
    final_norm: str
    head: str = "lm_head"
    # Norms of the queries and of the keys, where there are any.
    queries_norm: str = ""
    keys_norm: str = ""
    # The dropout behind ``down``, where there is one.
    dropout: str = ""
    # Rotary embeddings, where there are any, and the first transformers in which their angles are no matrix product.
    rotary: str = ""
    elementwise_angles: tuple[int, int] = (0, 0)

    @property
    def projections(self) -> tuple[str, ...]:
        """The layers that queries, keys and values come from, each once."""
        return tuple(dict.fromkeys((self.queries, self.keys, self.values)))

    @property
    def linear(self) -> tuple[str, ...]:
        """The linear layers of a block, in the order of the forward pass."""
        return (*self.projections, self.attention_output, *self.up, self.down)


GPT2 = Decoder(
    embeddings=("transformer.wte", "transformer.wpe"),
    blocks="transformer.h",
    attention_norm="ln_1",
    queries="attn.c_attn",
    keys="attn.c_attn",
    values="attn.c_attn",
    attention_output="attn.c_proj",
    mlp_norm="ln_2",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
    final_norm="transformer.ln_f",
    dropout="mlp.dropout",
)
LLAMA = Decoder(
    embeddings=("model.embed_tokens",),
    blocks="model.layers",
    attention_norm="input_layernorm",
    queries="self_attn.q_proj",
    keys="self_attn.k_proj",
    values="self_attn.v_proj",
    attention_output="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
    final_norm="model.norm",
    rotary="model.rotary_emb",
    elementwise_angles=(5, 15),
)
QWEN2 = replace(LLAMA, elementwise_angles=(5, 16))
QWEN3 = replace(QWEN2, queries_norm="self_attn.q_norm", keys_norm="self_attn.k_norm")

# By the ``model_type`` of the configuration.
DECODERS = {"gpt2": GPT2, "llama": LLAMA, "mistral": LLAMA, "qwen2": QWEN2, "gemma": LLAMA, "qwen3": QWEN3}


def decoder_of(model: nn.Module) -> Decoder:
    """The structure of ``model``, which may be on the meta device.

    Raises RecipeError for a type that is not among ``DECODERS``, and for a model that has other linear layers (a
    classification head, cross-attention, experts) than a decoder of its type.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in DECODERS:
        raise RecipeError(f"FLOPs: no closed form for a model of type {kind!r}; allowed: {', '.join(DECODERS)}")
    decoder = DECODERS[kind]
    there = set(linear_layers(model))
    blocks = {
        name.removeprefix(f"{decoder.blocks}.").split(".")[0] for name in there if name.startswith(decoder.blocks)
    }
    known = {f"{decoder.blocks}.{block}.{name}" for block in blocks for name in decoder.linear} | {decoder.head}
    if there != known:
        odd = sorted(there ^ known)
        raise RecipeError(
            f"FLOPs: no closed form for this {type(model).__name__}: it {'has' if odd[0] in there else 'lacks'} "
            f"{odd[0]}; allowed: the language model of a {kind!r} configuration"
        )
    return decoder
