from __future__ import annotations

import re

import pytest

from pytest_ftcheck.checks.catalogue import catalogue, chosen, sabotages
from pytest_ftcheck.checks.check import THEMES, Check
from pytest_ftcheck.errors import RecipeError

CHECKS = pytest.mark.parametrize("check", catalogue(), ids=lambda check: check.id)


@CHECKS
def test_a_check_is_completely_declared(check: Check) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", check.id)
    assert check.theme in THEMES
    assert check.claim
    assert "\n" not in check.claim
    assert not check.claim.endswith(".")
    assert check.controls, "every check has its negative control"


def test_ids_are_unique_and_none_is_a_theme() -> None:
    ids = [check.id for check in catalogue()]
    assert len(ids) == len(set(ids))
    assert not set(ids) & set(THEMES)


def test_one_id_means_one_way_to_break_a_recipe() -> None:
    controls = {(control.id, control.breaks) for check in catalogue() for control in check.controls}
    assert len(controls) == len(sabotages()) == len({control.id for control in sabotages()})


def test_checks_are_chosen_by_id_and_theme_in_the_catalogues_order() -> None:
    assert chosen() == catalogue()
    picked = chosen(["labels", "training-completes"])
    assert picked == tuple(c for c in catalogue() if c.theme == "labels" or c.id == "training-completes")


def test_an_unknown_name_is_refused_with_what_comes_close() -> None:
    with pytest.raises(RecipeError, match="no check or theme 'label'; allowed, for example: labels"):
        chosen(["label"])
    with pytest.raises(RecipeError, match=r"no check or theme 'xyzzy'; allowed, for example: \w+, "):
        chosen(["xyzzy"])
