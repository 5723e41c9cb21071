"""What the fixture ``ft_run`` gives out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import RecipeError
from .pair import Pair
from .runner import Request, Runner

if TYPE_CHECKING:
    from .options import Settings
    from .recipe import Recipe
    from .run import Run
    from .sweeping.search import Search
    from .sweeping.sweep import Sweep


class RunFactory:
    """Trains ``recipe`` when called: ``ft_run("lora")``, ``ft_run("full", seed=2)``, ``ft_run("lora", steps=50)``.
    ``gpus()`` is how many the test has that calls.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: str,
        runner: Runner,
        settings: Settings,
        gpus: Callable[[], int] = lambda: 1,
    ) -> None:
        self.recipe, self.device, self._runner, self._gpus = recipe, device, runner, gpus
        self.steps = settings.steps or recipe.steps
        self.seeds = settings.seeds or recipe.seeds
        # What it has given out: a report sets predictions beside it.
        self.given: list[Run] = []

    def __call__(self, method: str, seed: int = 0, steps: int | None = None) -> Run:
        """The run of ``method`` ("full", "lora", or a name in ``recipe.methods``) from ``seed``, to ``steps`` updates.

        Raises TrainingError for a run that shows nothing, and RecipeError for what cannot be trained.
        """
        __tracebackhide__ = True
        run = self._runner.run(self._request(method, seed, steps))
        self.given.append(run)
        return run

    def pair(self, lora: str = "lora", full: str = "full") -> Pair:
        """Both arms from every seed."""
        __tracebackhide__ = True
        seeds = range(self.seeds)
        runs = self._runner.runs([self._request(name, seed) for seed in seeds for name in (full, lora)])
        self.given += runs
        return Pair(tuple(runs[0::2]), tuple(runs[1::2]))

    def sweep(self, search: Search) -> Sweep:
        """Other settings of the recipe's LoRA, tried."""
        from .sweeping.search import sweep

        __tracebackhide__ = True
        return sweep(self.recipe, search, self._runner.quietly(), self.device, self.steps, self.seeds)

    def again(self, run: Run) -> Run:
        """``run``, trained once more. Raises RecipeError for a run of another recipe."""
        __tracebackhide__ = True
        return self._runner.again(self._request_of(run))

    def code(self, run: Run) -> str:
        """A digest of what ``run`` was trained from; "" where that cannot be told."""
        return self._request_of(run).code()

    def _request_of(self, run: Run) -> Request:
        __tracebackhide__ = True
        if run.recipe != self.recipe.name:
            raise RecipeError(f"the run is of recipe {run.recipe!r}; allowed: one of ft_recipe, {self.recipe.name!r}")
        return self._request(run.method, run.seed, run.steps)

    def _request(self, method: str, seed: int, steps: int | None = None) -> Request:
        __tracebackhide__ = True
        steps = self.steps if steps is None else steps
        for name, value, least in (("seed", seed, 0), ("steps", steps, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise RecipeError(f"ft_run(..., {name}={value!r}); allowed: a whole number of at least {least}")
        self.recipe.method(method)
        return Request(self.recipe, method, seed, steps, self.device, self._gpus())
