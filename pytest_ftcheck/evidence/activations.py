"""Activations that are computed twice instead of kept: turning a model's gradient checkpointing on, and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Keyword arguments of torch.utils.checkpoint.checkpoint itself; it hands on the others.
OF_CHECKPOINT = ("use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop")


def enable_checkpointing(model: nn.Module, use_reentrant: bool) -> None:
    """Turn on the checkpointing of a transformers model. Raises TypeError where it gives no choice (before 4.35)."""
    chosen = {"use_reentrant": use_reentrant}
    # Its name from 5.20 on; the older one then warns.
    newer: Any = getattr(model, "activation_checkpointing_enable", None)
    if newer is not None:
        newer(activation_checkpointing_kwargs=chosen)
    else:
        older: Any = model.gradient_checkpointing_enable
        older(gradient_checkpointing_kwargs=chosen)


def is_checkpointed(model: nn.Module) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) is True for module in model.modules())


@contextlib.contextmanager
def never_checkpointed(model: nn.Module) -> Iterator[bool]:
    """No module of ``model`` checkpoints in the body: neither by transformers' flag nor by calling torch's function
    under the name that its source imported. Gives whether any would have.
    """
    import sys

    from torch.utils.checkpoint import checkpoint

    flagged = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True]
    sources = {sys.modules.get(type(module).__module__) for module in model.modules()}
    named = [s for s in sources if s is not None and vars(s).get("checkpoint") is checkpoint]
    own = [s for s in named if not s.__name__.startswith(("torch.", "transformers.", "peft."))]

    def straight(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **{name: value for name, value in kwargs.items() if name not in OF_CHECKPOINT})

    for module in flagged:
        module.gradient_checkpointing = False  # type: ignore[assignment]
    for source in own:
        source.checkpoint = straight  # type: ignore[attr-defined]
    try:
        yield bool(flagged or own)
    finally:
        for module in flagged:
            module.gradient_checkpointing = True  # type: ignore[assignment]
        for source in own:
            source.checkpoint = checkpoint  # type: ignore[attr-defined]
