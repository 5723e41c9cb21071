"""Two recipes of this session, compared by the time of a step."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ComparisonError, PredictionError, RecipeError
from ..recipe import Recipe
from ..scratch import prefix
from .contestant import LIMIT_S, Contestant, python
from .interleaving import UPDATES, compare, interleaved
from .step_time import Round, StepTime

START = "from pytest_ftcheck.comparison.turns import main; main()"


@dataclass(frozen=True)
class Entry:
    """What a contestant is sent."""

    recipe: Recipe
    device: str


def compare_recipes(
    reference: Recipe, candidate: Recipe, method: str, device: str, seed: int = 0, limit_s: float = LIMIT_S
) -> StepTime:
    """Whether a step of ``candidate`` takes longer than one of ``reference``. Both train in processes of their own, in
    turns. Raises RecipeError for a method that one of them does not have, ComparisonError where one does not train.
    """
    for recipe in (reference, candidate):
        if not isinstance(recipe, Recipe):
            raise RecipeError(f"ft_compare(...) was given {type(recipe).__name__}; allowed: a Recipe")
        recipe.method(method)
    names = (reference.name, candidate.name)
    if reference.name == candidate.name:
        names = (f"{reference.name} (a)", f"{candidate.name} (b)")
    order = random.Random(seed)

    def fresh(method: str, alpha: float) -> Round:
        with started(names[0], reference, device, limit_s) as a, started(names[1], candidate, device, limit_s) as b:
            for one in (a, b):
                one.ask(what="train", method=method, seed=seed, steps=UPDATES)
            for one in (a, b):
                one.answer()
            return interleaved(a, b, order, alpha)

    return compare([method], fresh, names, device)[method]


@contextlib.contextmanager
def started(name: str, recipe: Recipe, device: str, limit_s: float = LIMIT_S) -> Iterator[Contestant]:
    """A process that trains ``recipe`` when it is asked to. Raises ComparisonError where it cannot be sent there."""
    from ..predict.parcel import packed

    try:
        parcel = packed(Entry(recipe, device))
    except PredictionError as error:
        raise ComparisonError(f"{name}: {error}") from error
    with tempfile.TemporaryDirectory(prefix=prefix() + "compare-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "recipe"
        file.write_bytes(parcel)
        with Contestant(name, python(START, str(file)), Path.cwd(), Path(folder), limit_s=limit_s) as one:
            yield one
