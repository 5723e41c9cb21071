"""Breaking how an adapter is loaded beside another."""

from __future__ import annotations

from typing import Any

from ...errors import NotApplicable
from ...evidence.names import active_adapters
from ..check import Sabotage
from .parameters import in_adapted


def _loading_freezes(model: Any) -> None:
    if not hasattr(model, "load_adapter") or not hasattr(model, "peft_config"):
        raise NotApplicable("the model is not PEFT's")
    kind = type(model)
    (first,) = active_adapters(model)
    model.add_adapter("second", model.peft_config[first])
    model.set_adapter(first)

    def load_adapter(this: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = kind.load_adapter(this, *args, **kwargs)
        this.requires_grad_(False)
        return loaded

    # A class and not a function of the instance: copies of the model must have it as well.
    model.__class__ = type(kind.__name__, (kind,), {"load_adapter": load_adapter})


LOADING_FREEZES = Sabotage(
    "loading-freezes", "loading an adapter freezes the one that trains", in_adapted(_loading_freezes), "adapter"
)
