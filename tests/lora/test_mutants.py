"""Every mutant is noticed, by the properties that it names."""

from __future__ import annotations

import pytest

from pytest_ftcheck.lora.catalogue import property_called
from pytest_ftcheck.lora.trying import try_property

from .mutant import Mutant
from .mutants import output

MUTANTS = (*output.MUTANTS,)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_is_noticed_by_the_properties_that_it_names(mutant: Mutant) -> None:
    for id in mutant.by:
        assert try_property(property_called(id), mutant.adapted()).status == "failed", mutant.mistake
