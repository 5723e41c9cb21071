"""What is right is not reported. PEFT is held to every property in test_peft_findings.py; over many seeds, and with as
many cases as users try, by ``python -m lora.false_alarms``.
"""

from __future__ import annotations

import pytest

from pytest_ftcheck.lora.adapter import Adapter

from .false_alarms import alarms
from .reference_dora import WideAdapter
from .reference_network import NetworkAdapter


@pytest.mark.parametrize("adapter", [WideAdapter(), NetworkAdapter()], ids=lambda one: one.name)
def test_right_implementations_raise_no_alarm(adapter: Adapter) -> None:
    assert [verdict.lines() for verdict in alarms(adapter, seed=2026, examples=3)] == []
