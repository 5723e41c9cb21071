"""A training step as pytest-benchmark times it: ``ft_benchmark``."""

from __future__ import annotations

import statistics
from typing import Any

from ..errors import RecipeError
from ..recipe import Recipe
from .contestant import LIMIT_S
from .recipes import started

ROUNDS, WARM_UP_ROUNDS = 20, 5
GROUP = "training step"


def time_steps(
    benchmark: Any,
    recipe: Recipe,
    method: str,
    device: str,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    warmup_rounds: int = WARM_UP_ROUNDS,
    limit_s: float = LIMIT_S,
) -> float:
    """Let ``benchmark``, the fixture of pytest-benchmark, time updates of ``recipe``, one a round. Returns the median
    of what the training itself measured (seconds), without the messages to its process and back.

    The loop is the user's own, in a process of its own, and waits within the optimizer's hook between two rounds; on a
    GPU a round ends when all that was queued is done. Raises RecipeError and ComparisonError.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"ft_benchmark(recipe=...) was given {type(recipe).__name__}; allowed: a Recipe")
    for name, count, least in (("rounds", rounds, 1), ("warmup_rounds", warmup_rounds, 0)):
        if type(count) is not int or count < least:
            raise RecipeError(f"ft_benchmark({name}={count!r}); allowed: a whole number of at least {least}")
    recipe.method(method)
    seconds: list[float] = []
    with started(recipe.name, recipe, device, limit_s) as training:
        training.ask(what="train", method=method, seed=seed, steps=1 + warmup_rounds + rounds)
        training.answer()
        benchmark.group = benchmark.group or GROUP
        benchmark.extra_info |= {"recipe": recipe.name, "method": method, "device": device}
        benchmark.pedantic(
            lambda: seconds.extend(training.turn(1)), rounds=rounds, warmup_rounds=warmup_rounds, iterations=1
        )
    # Where benchmarks are disabled (--benchmark-disable, -n), there is one.
    measured = seconds[warmup_rounds:] or seconds
    benchmark.extra_info["step_s"] = statistics.median(measured)
    return statistics.median(measured)
