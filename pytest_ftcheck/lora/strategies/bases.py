"""The layers that an adapter can be put on."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ..bases.convolution import Convolution
from ..bases.embedding import Embedding
from ..bases.experts import Experts
from ..bases.linear import Conv1D, Linear

# Large enough to tell inputs from outputs and rows from columns, small enough to take no time.
WIDTHS = st.integers(1, 7)


@st.composite
def _embeddings(draw: DrawFn) -> Embedding:
    vocabulary = draw(WIDTHS)
    padding = draw(st.none() | st.integers(0, vocabulary - 1))
    return Embedding(vocabulary, draw(WIDTHS), padding)


_CONVOLUTIONS = st.builds(
    Convolution,
    axes=st.integers(1, 3),
    channels_per_group=st.integers(1, 3),
    outputs_per_group=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 3),
    has_bias=st.booleans(),
)

BASES: dict[str, SearchStrategy[Any]] = {
    "linear": st.builds(Linear, inputs_=WIDTHS, outputs=WIDTHS, has_bias=st.booleans()),
    "conv1d": st.builds(Conv1D, inputs_=WIDTHS, outputs=WIDTHS),
    "embedding": _embeddings(),
    "convolution": _CONVOLUTIONS,
    # Of a single expert, peft 0.21.2 makes a layer like any other.
    "experts": st.builds(
        Experts, experts=st.integers(2, 4), inputs_=WIDTHS, outputs=WIDTHS, outputs_first=st.booleans()
    ),
}
