"""Whose a parameter is: the base model's, an adapter's, or a trained copy's; told from its name, as PEFT writes it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..theory.parameters import ADAPTERS, base_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .evidence import Evidence

# Expert number so-and-so: a training need not send it a token.
EXPERT = re.compile(r"(experts?)\.\d+\.")


def base_parameters(evidence: Evidence) -> Mapping[str, Tensor]:
    """The base model's parameters by name, tied ones under each of theirs. Not to be changed: checks share them.

    NotApplicable where the training builds its model by itself.
    """
    return dict(shared_base(evidence).named_parameters(remove_duplicate=False))


def shared_base(evidence: Evidence) -> nn.Module:
    """One base model for all checks that only look at it. NotApplicable where the training builds its own."""
    model = evidence.once(shared_base, evidence.base_model)
    if not any(True for _ in model.parameters()):
        raise NotApplicable("the training builds its model by itself, so there is no base model to compare with")
    return model


def in_base(name: str, base: Collection[str]) -> str | None:
    """The base model's parameter that the trained model calls ``name``; None for one that it has beside the base's."""
    if is_adapters(name):
        return None
    module, own = base_name(name), name.rpartition(".")[2]
    # Methods that train inputs put the base model one level higher than those that wrap its layers.
    candidates = [f"{module}.{own}".lstrip("."), name.removeprefix("base_model."), name]
    return next((candidate for candidate in candidates if candidate in base), None)


def is_adapters(name: str) -> bool:
    """Whether ``name`` is of a tensor that an adapter adds: one of its own, or a trained copy."""
    return any(part == "modules_to_save" or part.startswith(ADAPTERS) for part in name.split("."))


def adapter_in(name: str, adapters: Collection[str]) -> str | None:
    """Which of ``adapters`` the parameter called ``name`` belongs to; None for one that is no adapter's."""
    parts = name.split(".")
    begin = next((i for i, part in enumerate(parts) if part.startswith(ADAPTERS) or part == "modules_to_save"), None)
    return None if begin is None else next((part for part in parts[begin + 1 :] if part in adapters), None)


def is_idle(name: str, known: Collection[str], active: Collection[str]) -> bool:
    """Whether the parameter called ``name`` belongs to one of the ``known`` adapters that is not ``active``."""
    adapter = adapter_in(name, known)
    return bool(active) and adapter is not None and adapter not in active


def active_adapters(model: Any) -> set[str]:
    """The names of the adapters in use. PEFT has told them in different ways over the years, and a transformers model
    raises where it has none.
    """
    for attribute in ("active_adapter", "active_adapters"):
        try:
            found = getattr(model, attribute, None)
            found = found() if callable(found) else found
        except ValueError:
            continue
        if found:
            return {found} if isinstance(found, str) else set(found)
    return set()


def trainable_names(model: nn.Module) -> set[str]:
    """The names of the parameters that require a gradient."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def first_few_of(names: Collection[str]) -> str:
    """The first names of many, without what a wrapper puts before them."""
    from ..theory.differences import first_few

    return first_few([name.removeprefix("base_model.model.") for name in names])
