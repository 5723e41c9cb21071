"""Every mutant is noticed, by the properties that it names, and every property notices mutants."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pytest_ftcheck.lora.catalogue import all_properties

from .missed import MUTANTS, THEMES, is_noticed, missed
from .mutant import Mutant

# Of 187 mutants: 374 trials, so that one miss in 125 would probably be seen. With 20: python -m lora.missed.
SEEDS = 2


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_is_noticed_by_the_properties_that_it_names(mutant: Mutant) -> None:
    for id in mutant.by:
        assert is_noticed(mutant, id), f"{id}: {mutant.mistake}"


@pytest.mark.parametrize("theme", THEMES)
def test_every_mutant_is_noticed_whatever_the_seed(theme: str) -> None:
    assert list(missed(THEMES[theme].MUTANTS, range(SEEDS))) == []


def test_what_nobody_notices_is_missed() -> None:
    """The control: a mutant that claims a property which does not depend on its mistake."""
    mutant = next(one for one in MUTANTS if one.by == ("merged-output",))
    blind = dataclasses.replace(mutant, by=("output-is-base-plus-update",))
    assert list(missed([blind], range(1))) == [f"{mutant.name}, seed 0"]


def test_every_property_notices_at_least_two_mutants() -> None:
    noticed = Counter(id for mutant in MUTANTS for id in mutant.by)
    assert [id for id in all_properties() if noticed[id] < 2] == []
