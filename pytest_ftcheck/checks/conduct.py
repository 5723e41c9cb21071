"""Checks of how a training behaves as a guest: it runs, it ends, and it leaves the house as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .check import Finding, Sabotage, check

if TYPE_CHECKING:
    from ..recipe import Job, Recipe
    from .evidence import Evidence


def _raises(recipe: Recipe) -> Recipe:
    def train(job: Job) -> None:
        raise RuntimeError("broken on purpose")

    return recipe.replace(train=train)


RAISES = Sabotage("training-raises", "train(job) raises an error", _raises)


@check(
    "training-completes",
    "conduct",
    "train(job) runs to its end and makes job.steps updates",
    controls=[RAISES],
)
def training_completes(evidence: Evidence) -> Iterator[Finding]:
    training = evidence.standard
    updates, asked = len(training.trace.updates), training.job.steps
    if updates != asked:
        yield Finding(
            summary=f"{updates} updates instead of {asked}",
            cause="the loop does not take its length from job.steps (a Trainer: max_steps=job.steps)",
            remedy="end after job.steps optimizer updates",
        )
