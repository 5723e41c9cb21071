"""Negative controls, tried: what a check says where the sound recipe of the embedded instruction task is broken."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.evidence import Evidence
from .examination import examine

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .check import Check, Sabotage
    from .verdict import Verdict


def verdict_on(check: Check, control: Sabotage) -> Verdict:
    """What ``check`` says of the sound recipe, broken by ``control``. Checks that have a control in common share its
    trainings where they are asked one after the other.
    """
    method = "full" if "full" in (check.applies, control.method) else "lora"
    return examine(check, _broken(control, method, several="processes" in check.needs))


@functools.lru_cache(maxsize=1)
def _broken(control: Sabotage, method: str, several: bool) -> Evidence:
    try:
        recipe = control.apply(_sound(1, method, several))
    except NotApplicable:  # it breaks one of several layers
        recipe = control.apply(_sound(2, method, several))
    return Evidence(recipe, method)


def _sound(layers: int, method: str, several: bool) -> Recipe:
    """``method`` is the recipe's only one: some controls try whatever it declares."""
    from ..tasks.instruction import instruction_recipe, tiny_llama

    model = functools.partial(tiny_llama, num_hidden_layers=layers)
    other = "full" if method == "lora" else "lora"
    parts = {"processes": 2, "strategy": "ddp"} if several else {}
    return instruction_recipe(model, **{other: None}, **parts)
