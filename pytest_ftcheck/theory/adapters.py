"""The closed forms by method: what each puts on the modules of a base model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..methods import LoRA
from .forms.adalora import adalora
from .forms.adapter import Adapter
from .forms.ia3 import ia3
from .forms.loha import loha
from .forms.lokr import lokr
from .forms.lora import lora
from .forms.vera import vera
from .lora_config import has_other_counts, lora_of
from .placement import kind_of

if TYPE_CHECKING:
    from torch import nn

    from .placement import Adapting

FORMS: dict[str, Callable[[nn.Module, Any], dict[str, Adapter]]] = {
    "ADALORA": adalora,
    "IA3": ia3,
    "LOHA": loha,
    "LOKR": lokr,
    "VERA": vera,
}


def adapters_of(model: nn.Module, method: Adapting) -> dict[str, Adapter] | None:
    """Name of each module of the base ``model`` that ``method`` adapts -> its adapter; None where no form is known.

    The forms are those of peft 0.21.2, of a new adapter: ``inference_mode`` and what is loaded later are not in them.
    Raises RecipeError where the declaration names a module that is not there, or that the method cannot adapt.
    """
    declared = method if isinstance(method, LoRA) else lora_of(method)
    if declared is not None:
        return lora(model, declared)
    if isinstance(method, LoRA) or has_other_counts(method) or kind_of(method) not in FORMS:
        return None
    return FORMS[kind_of(method)](model, method)
