"""What a training may take: seconds; and, where it runs out of memory, a second try with half the batch."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .deadline import deadline
from .errors import OutOfMemoryError
from .recipe import Recipe
from .run import Run

if TYPE_CHECKING:
    from .runner import Request


@dataclass(frozen=True)
class Allowance:
    """``time_limit_s``: seconds for all of one run, None for as long as it takes. ``retries``: once more after out of
    memory, with half the batch and twice the accumulation, so that an update has as many rows as before.
    """

    time_limit_s: float | None = None
    retries: bool = False

    def run(self, request: Request, unfinished: Path | None = None) -> Run:
        """The run that was asked for, which says where it was a second try; gone on with from ``unfinished``, where an
        interrupted one has left a checkpoint. Raises what ``execute`` raises, and TimeLimitError.
        """
        try:
            return self._run(request, request.recipe, unfinished)
        except OutOfMemoryError as error:
            halves = halved(request.recipe) if self.retries else None
            if halves is None:
                raise
            first = str(error)
        # Only here is the first try gone, with all that its error held.
        gc.collect()
        retried = f"{split(request.recipe)} -> {split(halves)}"
        try:
            run = self._run(request, halves)
        except OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{first}\n  tried again with {split(halves)}: {str(error).splitlines()[0]}"
            ) from None
        return dataclasses.replace(run, retried=f"{retried} after out of memory")

    def _run(self, request: Request, recipe: Recipe, unfinished: Path | None = None) -> Run:
        from .execution import (  # imports torch, which runs that are remembered or stored do not need
            execute,
            import_what_optimizers_import,
        )

        if self.time_limit_s is not None:
            import_what_optimizers_import()
        with deadline(self.time_limit_s, f"{request.method}: the run of {request.steps} updates"):
            return execute(recipe, request.method, request.seed, request.steps, request.device, unfinished)


def halved(recipe: Recipe) -> Recipe | None:
    """The recipe with half the batch and twice the accumulation; None where the batch cannot be halved."""
    if recipe.batch_size % 2:
        return None
    return recipe.replace(batch_size=recipe.batch_size // 2, accumulation=recipe.accumulation * 2)


def split(recipe: Recipe) -> str:
    """How the rows of an update are divided."""
    return f"batch_size {recipe.batch_size} x accumulation {recipe.accumulation}"
