"""Mutants that a seed does not show: how often a wrong implementation would pass. Run it to try many seeds:

cd tests && python -m lora.missed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import hypothesis
from hypothesis import Phase

from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.trying import try_property

from .mutant import Mutant
from .mutants import (
    dora,
    dropout,
    gradients,
    initialisations,
    linearity,
    merging,
    modules,
    networks,
    output,
    saving,
    scaling,
    slope,
    splitting,
    switching,
)

THEMES = {
    theme.__name__.rpartition(".")[2]: theme
    for theme in (
        *(output, scaling, linearity, dropout, gradients, merging, switching, saving, modules),
        *(initialisations, slope, splitting, dora, networks),
    )
}
MUTANTS: list[Mutant] = [mutant for theme in THEMES.values() for mutant in theme.MUTANTS]
SEEDS = 20


def missed(mutants: Iterable[Mutant], seeds: Iterable[int]) -> Iterator[str]:
    """One line for each mutant and seed with which no property that the mutant names notices it."""
    seeds = list(seeds)
    for mutant in mutants:
        for seed in seeds:
            if not any(is_noticed(mutant, id, seed) for id in mutant.by):
                yield f"{mutant.name}, seed {seed}"


def is_noticed(mutant: Mutant, id: str, seed: int | None = None) -> bool:
    """On one kind of layer at least. What fails is not made smaller, which takes most of the time."""
    settings = hypothesis.settings(chosen_profile(), phases=[Phase.generate])
    for kind in mutant.adapted().kinds:
        adapter = mutant.adapted()
        adapter.kinds = (kind,)  # type: ignore[misc]
        if try_property(property_called(id), adapter, seed=seed, settings=settings).status == "failed":
            return True
    return False


def main() -> None:
    found = 0
    for line in missed(MUTANTS, range(SEEDS)):
        found += 1
        print(line, flush=True)
    print(f"{found} of {SEEDS * len(MUTANTS)} were missed: {len(MUTANTS)} mutants, {SEEDS} seeds")


if __name__ == "__main__":
    main()
