"""What a model was called with: its arguments by name, and copies of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def named_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments of a call of ``model`` by name; positional ones by the forward method that names them."""
    names: list[str] = []
    # A PeftModel takes anything and hands it on to the model within.
    for one in (model, getattr(model, "get_base_model", lambda: model)()):
        parameters = inspect.signature(one.forward).parameters.values()
        names = names or [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    for index, value in enumerate(args):
        yield (names[index] if index < len(names) else f"argument {index}"), value
    yield from kwargs.items()


def copied(value: Any) -> Any:
    """A copy of the tensors in nested inputs, without their history."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value
