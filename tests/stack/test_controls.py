"""Each probe that has a negative control notices it, and is silent without it."""

from __future__ import annotations

import pytest

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.stack.probe import Probe, probes
from pytest_ftcheck.stack.releases import require

CONTROLLED = [probe for probe in probes() if probe.control is not None]


@pytest.mark.parametrize("probe", CONTROLLED, ids=lambda probe: probe.id)
def test_a_probe_notices_its_control_and_nothing_without_it(probe: Probe) -> None:
    try:
        require(probe.needs)
    except NotApplicable as answer:
        pytest.skip(str(answer))
    assert probe.control is not None
    sound = probe.examine_case(probe.control.case)
    assert sound.status == "passed", str(sound)
    with probe.control.breaks():
        broken = probe.examine_case(probe.control.case)
    assert broken.status in ("failed", "expected failure"), f"{probe.id} does not notice {probe.control.breaks.__doc__}"
    assert broken.findings
