"""Every mutant is noticed, by the properties that it names."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import Phase

from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.trying import try_property

from .mutant import Mutant
from .mutants import dora, initialisations, output, slope, splitting

MUTANTS = (*output.MUTANTS, *initialisations.MUTANTS, *slope.MUTANTS, *splitting.MUTANTS, *dora.MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_is_noticed_by_the_properties_that_it_names(mutant: Mutant) -> None:
    # What fails is not made smaller, which takes most of the time.
    settings = hypothesis.settings(chosen_profile(), phases=[Phase.generate])
    for id in mutant.by:
        verdict = try_property(property_called(id), mutant.adapted(), settings=settings)
        assert verdict.status == "failed", mutant.mistake
