"""What a prediction's process is asked."""

from __future__ import annotations

from dataclasses import dataclass

from ..recipe import Recipe
from .gpu import Gpu
from .journal import Journal


@dataclass(frozen=True)
class Request:
    """One update of ``recipe`` with its method called ``method``, on ``gpu``; ``device_type`` is None, for that GPU, or
    ``"cpu"``.
    """

    recipe: Recipe
    method: str
    gpu: Gpu
    device_type: str | None = None

    def answer(self, journal: Journal) -> str:
        """The prediction, as JSON. It leaves the process unfit for anything else."""
        from .dry_run import dry_run

        return dry_run(self.recipe, self.method, self.gpu, journal, self.device_type).to_json()
