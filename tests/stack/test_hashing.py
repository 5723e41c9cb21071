"""Probes under several hash seeds: they exist, and their verdicts come back from other processes."""

from __future__ import annotations

import json

import pytest

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.stack import hashing
from pytest_ftcheck.stack.probe import probes


def test_every_sensitive_probe_exists_with_its_cases() -> None:
    cases = {probe.id: probe.cases for probe in probes()}
    for id, wanted in hashing.SENSITIVE.items():
        assert set(wanted) <= set(cases[id]())


def test_a_process_reports_verdicts_as_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hashing, "SENSITIVE", {"adapter-loads-as-saved": ("lora",)})
    hashing.main(seed=0)
    (record,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    verdict = Verdict.from_json(json.dumps(record))
    assert (verdict.check, verdict.method, verdict.status) == ("adapter-loads-as-saved", "lora", "passed")


def test_a_process_that_dies_is_an_error_and_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    def dead(hash_seed: int, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "raise SystemExit('broken')"]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    monkeypatch.setattr(hashing, "_start", dead)
    verdicts = hashing.HASH_SEEDS.examine()
    assert [verdict.status for verdict in verdicts] == ["error"] * 3
    assert "broken" in verdicts[0].reason
