"""Every mutant is noticed, by the properties that it names, and every property notices mutants."""

from __future__ import annotations

from collections import Counter
from types import ModuleType

import hypothesis
import pytest
from hypothesis import Phase

from pytest_ftcheck.lora.catalogue import all_properties, property_called
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

THEMES = (
    *(output, scaling, linearity, dropout, gradients, merging, switching, saving, modules),
    *(initialisations, slope, splitting, dora, networks),
)
MUTANTS = [mutant for theme in THEMES for mutant in theme.MUTANTS]
# Twenty were tried when the mutants were written, and none was missed; five keep the suite quick.
SEEDS = 5


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_is_noticed_by_the_properties_that_it_names(mutant: Mutant) -> None:
    for id in mutant.by:
        assert _is_noticed(mutant, id), f"{id}: {mutant.mistake}"


@pytest.mark.parametrize("theme", THEMES, ids=[theme.__name__.rpartition(".")[2] for theme in THEMES])
def test_every_mutant_is_noticed_whatever_the_seed(theme: ModuleType) -> None:
    for mutant in theme.MUTANTS:
        for seed in range(SEEDS):
            assert any(_is_noticed(mutant, id, seed) for id in mutant.by), f"{mutant.name}, seed {seed}"


def _is_noticed(mutant: Mutant, id: str, seed: int | None = None) -> bool:
    """On one kind of layer at least. What fails is not made smaller, which takes most of the time."""
    settings = hypothesis.settings(chosen_profile(), phases=[Phase.generate])
    for kind in mutant.adapted().kinds:
        adapter = mutant.adapted()
        adapter.kinds = (kind,)  # type: ignore[misc]
        if try_property(property_called(id), adapter, seed=seed, settings=settings).status == "failed":
            return True
    return False


def test_every_property_notices_at_least_two_mutants() -> None:
    noticed = Counter(id for mutant in MUTANTS for id in mutant.by)
    assert [id for id in all_properties() if noticed[id] < 2] == []
