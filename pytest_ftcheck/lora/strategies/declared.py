"""Cases whose declaration says what a property is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis.strategies import SearchStrategy

from ..adapter import Adapter
from ..layer_case import LayerCase
from .cases import layer_cases


def declared(settings: Mapping[str, Any], kind: str, adapter: Adapter, /, **drawing: Any) -> SearchStrategy[LayerCase]:
    """``layer_cases`` with these settings of ``LoRA``: ``partial(declared, {"use_dora": True})``."""
    cases = layer_cases(kind, adapter, **drawing)
    return cases.map(lambda case: replace(case, config=replace(case.config, **settings)))
