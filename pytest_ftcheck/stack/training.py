"""Subjects that are trainings: the recipes of the audit under the catalogue's checks."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks.verdict import Verdict
from ..errors import NotApplicable
from .known import known_reason
from .recipe_forms import StackRecipe
from .recipes import entries
from .releases import require


@dataclass(frozen=True)
class RecipeSubject:
    """One recipe of the audit, examined by the checks of its themes."""

    entry: StackRecipe

    @property
    def id(self) -> str:
        return f"recipe-{self.entry.id}"

    @property
    def claim(self) -> str:
        return f"{self.entry.claim} passes the catalogue"

    @property
    def links(self) -> tuple[str, ...]:
        return self.entry.links

    def examine(self, seed: int = 0) -> list[Verdict]:
        """The catalogue's verdicts on each method of the recipe."""
        from ..checks.examination import check_training

        try:
            require(self.entry.needs)
            recipe = self.entry.make()
        except NotApplicable as answer:
            return [Verdict(self.id, "conduct", "all", self.claim, "not applicable", reason=str(answer))]
        from .probe import quiet

        with quiet():
            verdicts = check_training(recipe, select=self.entry.themes, seed=seed)
        return [self._against_known(verdict) for verdict in verdicts]

    def _against_known(self, verdict: Verdict) -> Verdict:
        import dataclasses

        reason = known_reason(self.id, verdict.check) if verdict.failed else None
        return dataclasses.replace(verdict, status="expected failure", reason=reason) if reason else verdict


def trainings() -> tuple[RecipeSubject, ...]:
    """A subject for each recipe."""
    return tuple(RecipeSubject(entry) for entry in entries())
