"""Layers with adapters on them, as properties meet them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ..adapter import Adapter
from ..layer_case import LayerCase
from ..state import CONTENTS, AdapterState, Content
from .bases import BASES
from .configs import lora_configs

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ROWS = ((1,), (3,), (2, 3))
SEEDS = st.integers(0, 2**16)


def dtypes() -> SearchStrategy[torch.dtype]:
    """float32, bfloat16, float16, float64."""
    return st.sampled_from(DTYPES)


@st.composite
def adapter_states(draw: DrawFn, contents: Sequence[Content] = CONTENTS) -> AdapterState:
    """What A and B hold; ``state.fill(a, b, dtype)`` writes it into them."""
    return AdapterState(draw(st.sampled_from(contents)), draw(SEEDS))


@st.composite
def layer_cases(
    draw: DrawFn,
    kind: str,
    adapter: Adapter,
    /,
    *,
    features: Sequence[str] = ("dropout", "rslora", "gaussian"),
    dtypes: Sequence[torch.dtype] = DTYPES,
    contents: Sequence[Content] = ("trained",),
    **settings: Any,
) -> LayerCase:
    """A layer of ``kind``, with settings that ``adapter`` obeys: those of ``features``, and ``settings`` as given."""
    base = draw(BASES[kind])
    known = [feature for feature in features if adapter.knows(feature, kind)]
    config = draw(lora_configs(features=known, multiple_of=base.groups, **settings))
    dtype = draw(st.sampled_from(dtypes))
    state = draw(adapter_states(contents))
    return LayerCase(base, config, dtype, state, draw(st.sampled_from(ROWS)), draw(SEEDS))
