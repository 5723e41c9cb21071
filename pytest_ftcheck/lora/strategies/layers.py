"""Layers as users draw them in tests of their own: modules of torch and transformers, with weights in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import nn

from ...errors import RecipeError
from .bases import BASES
from .cases import SEEDS
from .networks import NETWORKS

if TYPE_CHECKING:
    from transformers.pytorch_utils import Conv1D

    from ..bases.experts import StackedExperts

FLOAT32 = (torch.float32,)


def linear_layers(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[nn.Linear]:
    """``nn.Linear`` of 1 to 7 inputs and outputs, with a bias or without one, of one of ``dtypes``.

    The weights are from the standard normal distribution, as those of all these layers.
    """
    return _built(BASES["linear"], dtypes)


def conv1d_layers(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[Conv1D]:
    """GPT-2's ``Conv1D``, whose weight is (inputs, outputs): 1 to 7 of each."""
    # While hypothesis draws, it would count as slow drawing.
    import transformers.pytorch_utils  # noqa: F401

    return _built(BASES["conv1d"], dtypes)


def embeddings(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[nn.Embedding]:
    """``nn.Embedding`` of 1 to 7 tokens and outputs, some with a ``padding_idx``; its row is not zero."""
    return _built(BASES["embedding"], dtypes)


def conv_layers(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[nn.Module]:
    """``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d`` with kernels of 1 to 3, strides and dilations of 1 and 2, paddings
    of 0 to 2 and 1 to 3 groups. Their images need 5 pixels along each axis.
    """
    return _built(BASES["convolution"], dtypes)


def attention_layers(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[nn.MultiheadAttention]:
    """``nn.MultiheadAttention`` with a packed projection and the batch first: 1 to 3 heads of 1 to 3 features."""
    return _built(NETWORKS["attention"], dtypes).map(lambda network: network.attention)


def expert_parameters(dtypes: Sequence[torch.dtype] = FLOAT32) -> SearchStrategy[StackedExperts]:
    """A module whose ``weight`` stacks 2 to 4 experts, (experts, inputs, outputs) or (experts, outputs, inputs) with
    ``is_transposed`` to tell which, over (experts, rows, inputs): as in the mixtures of transformers 5.
    """
    return _built(BASES["experts"], dtypes)


def _built(forms: SearchStrategy[Any], dtypes: Sequence[torch.dtype]) -> SearchStrategy[Any]:
    if not isinstance(dtypes, (tuple, list)) or not dtypes or not all(isinstance(one, torch.dtype) for one in dtypes):
        raise RecipeError(f"dtypes is {dtypes!r}; allowed: a list of torch's dtypes, with at least one")
    return st.builds(lambda form, dtype, seed: form.build(dtype, seed), forms, st.sampled_from(tuple(dtypes)), SEEDS)
