"""What a training script is told of the job: all else it decides by itself, and the recipe declares nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotApplicable

if TYPE_CHECKING:
    from .evidence import Evidence


def refuse_undeclared(evidence: Evidence, field: str) -> None:
    """Raise NotApplicable where the training is a script whose arguments do not hold the job's ``field``."""
    from ..script import Script

    owner = getattr(evidence.recipe.train, "__self__", None)
    if not isinstance(owner, Script) or callable(owner.arguments):
        return
    if not any(f"{{{field}}}" in str(argument) for argument in owner.arguments):
        raise NotApplicable(f"the script's arguments do not hold {{{field}}}: it has its own, which is not declared")
