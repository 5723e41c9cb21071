"""Models of the embedded tasks: real architectures, at a size that trains in milliseconds a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def tiny_gpt2(
    vocabulary: int,
    context: int,
    width: int = 64,
    inner: int | None = None,
    layers: int = 2,
    heads: int = 2,
    spread: float = 0.02,
    seed: int = 0,
) -> nn.Module:
    """A GPT-2 without dropout; ``inner`` is the width of its MLPs (default four times ``width``), ``spread`` the
    standard deviation of its initial weights. The same weights for the same arguments, whatever the global generators
    hold.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=context,
        n_embd=width,
        n_inner=inner,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",
        initializer_range=spread,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    config.loss_type = "ForCausalLM"  # transformers 5 warns where it is left to be guessed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)
