"""What a probe makes of libraries that fail, raise, refuse or are not there."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import pytest

from pytest_ftcheck.checks.check import Finding
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.stack import probe as module
from pytest_ftcheck.stack.probe import Function, Probe, distance


def examined(function: Function, needs: str = "torch", case: str = "one") -> Verdict:
    probe = Probe("a-probe", "adapter", "it holds", "torch", "its cause", function, lambda: (case,), needs)
    (verdict,) = probe.examine()
    return verdict


def silent(case: str, seed: int) -> Iterable[Finding]:
    return ()


def test_a_probe_that_finds_nothing_has_passed() -> None:
    assert examined(silent).status == "passed"


def test_a_library_that_raises_has_failed_and_the_place_is_named() -> None:
    def raising(case: str, seed: int) -> Iterable[Finding]:
        ast.literal_eval("1 +")
        return ()

    verdict = examined(raising)
    assert verdict.status == "failed"
    assert "SyntaxError" in verdict.findings[0].summary
    assert "ast.py" in verdict.findings[0].evidence[0]
    assert verdict.findings[0].cause == "its cause"


def test_a_library_that_refuses_is_not_applicable() -> None:
    def refusing(case: str, seed: int) -> Iterable[Finding]:
        raise ValueError("DoRA does not support Conv9d yet")

    verdict = examined(refusing)
    assert verdict.status == "not applicable"
    assert "Conv9d" in verdict.reason


def test_a_missing_interface_is_not_applicable_and_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(case: str, seed: int) -> Iterable[Finding]:
        raise NotApplicable("torch 2.13 has no such thing")

    assert examined(missing).status == "not applicable"


def test_a_fault_of_our_own_is_an_error() -> None:
    def broken(case: str, seed: int) -> Iterable[Finding]:
        raise ImportError("cannot import name 'x' from 'pytest_ftcheck.stack'")

    assert examined(broken).status == "error"


def test_a_release_that_is_not_there_is_one_verdict_with_the_reason() -> None:
    verdict = examined(silent, needs="torch>=99")
    assert (verdict.status, verdict.method) == ("not applicable", "all")
    assert "torch >= 99" in verdict.reason


def test_a_known_failure_is_expected_and_a_pass_of_it_is_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_reason", lambda probe, case: "fixed by nobody yet")

    def failing(case: str, seed: int) -> Iterable[Finding]:
        return [Finding("off by one", "cause", "remedy")]

    verdict = examined(failing)
    assert (verdict.status, verdict.reason) == ("expected failure", "fixed by nobody yet")
    assert not verdict.failed
    assert examined(silent).status == "passed"


def test_distance_of_other_shapes_is_infinite_and_of_nan_is_nan() -> None:
    import torch

    assert distance(torch.zeros(2), torch.zeros(3)) == float("inf")
    assert not distance(torch.tensor([float("nan")]), torch.zeros(1)) <= 1.0
