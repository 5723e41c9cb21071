"""The list of what is known to fail names things that exist."""

from __future__ import annotations

import pytest

from pytest_ftcheck.checks.catalogue import catalogue
from pytest_ftcheck.stack import releases
from pytest_ftcheck.stack.known import KNOWN, Known, known_reason
from pytest_ftcheck.stack.probe import probes
from pytest_ftcheck.stack.training import trainings


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.probe)
def test_an_entry_names_a_probe_and_cases_of_it(known: Known) -> None:
    cases = {probe.id: probe.cases for probe in probes()}
    if known.probe.startswith("recipe-"):
        assert known.probe in {subject.id for subject in trainings()}
        assert set(known.cases) <= {check.id for check in catalogue()}
    else:
        assert set(known.cases) <= set(cases[known.probe]())
    assert known.reason


def test_an_entry_does_not_hold_for_older_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_reason("trainer-scales-with-equal-rows", "bert-classifier")
    monkeypatch.setattr(releases, "installed", lambda library: "4.46.0")
    assert known_reason("trainer-scales-with-equal-rows", "bert-classifier") is None


def test_what_is_not_in_the_list_is_not_known() -> None:
    assert known_reason("adapter-loads-as-saved", "lora") is None
