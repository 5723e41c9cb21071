"""Networks with adapters on them, as properties meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import nn

from ..adapter import Adapter
from ..networks.case import NetworkCase
from ..networks.network import ARCHITECTURES, Attention, Network
from .cases import DTYPES, SEEDS
from .configs import lora_configs

# What float64 can be the exact reference of: how far off a network of float64 itself may be, nothing here tells.
ROUNDED = tuple(dtype for dtype in DTYPES if dtype != torch.float64)


def _models(architectures: Sequence[str]) -> SearchStrategy[Network]:
    return st.builds(
        Network, st.sampled_from(list(architectures)), layers=st.integers(1, 2), width=st.sampled_from((8, 12))
    )


NETWORKS: dict[str, SearchStrategy[Any]] = {
    "model": _models(tuple(ARCHITECTURES)),
    "attention": st.builds(Attention, heads=st.integers(1, 3), size=st.integers(1, 3), has_bias=st.booleans()),
}


def tiny_models(
    architectures: Sequence[str] = tuple(ARCHITECTURES), dtypes: Sequence[torch.dtype] = (torch.float32,)
) -> SearchStrategy[nn.Module]:
    """Models of one or two layers, 8 or 12 wide, with 11 tokens: "Llama", "GPT-2", "BERT", "T5" and "Mixtral".

    In evaluation mode, without dropout.
    """
    drawn = _models(architectures), st.sampled_from(dtypes), SEEDS
    return st.builds(lambda network, dtype, seed: network.build(dtype, seed), *drawn)


@st.composite
def network_cases(
    draw: DrawFn,
    kind: str,
    adapter: Adapter,
    /,
    *,
    features: Sequence[str] = ("rslora", "patterns", "layers"),
    dtypes: Sequence[torch.dtype] = ROUNDED,
    embeddings: bool = True,
) -> NetworkCase:
    """A network of ``kind``, with settings of ``features`` that ``adapter`` obeys. ``embeddings``: adapted as well."""
    network = draw(NETWORKS[kind])
    known = [feature for feature in features if adapter.knows(feature, kind)]
    targets = [name for name in network.targets if embeddings or not _is_embedding(name)]
    config = draw(lora_configs(features=known, targets=targets, saved=network.saved, layers=network.layers))
    if all(map(_is_embedding, config.target_modules or ())):
        # These are in no layer, so that nothing would be adapted.
        config = replace(config, options={})
    return NetworkCase(network, config, draw(st.sampled_from(dtypes)), draw(SEEDS))


def _is_embedding(name: str) -> bool:
    return name in ("wte", "word_embeddings")
