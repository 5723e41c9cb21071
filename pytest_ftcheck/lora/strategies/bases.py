"""The layers that an adapter can be put on."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..bases.linear import Conv1D, Linear

# Large enough to tell inputs from outputs and rows from columns, small enough to take no time.
WIDTHS = st.integers(1, 7)

BASES: dict[str, SearchStrategy[Any]] = {
    "linear": st.builds(Linear, inputs_=WIDTHS, outputs=WIDTHS, has_bias=st.booleans()),
    "conv1d": st.builds(Conv1D, inputs_=WIDTHS, outputs=WIDTHS),
}
