"""Holm's procedure over the gates of a build, and confirmation on fresh samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pytest_ftcheck.baseline.decision import FAILED, PASSED, UNSTABLE, Decision
from pytest_ftcheck.baseline.family import MOST_ROUNDS, Gate, holm, settled
from pytest_ftcheck.interval import Interval

CLOSE = "close"


def decided(verdict: str, p: float = 0.5) -> Decision:
    """CLOSE is a pass that was close."""
    kind = PASSED if verdict == CLOSE else verdict
    return Decision(kind, verdict, p, Interval(0.0, -1.0, 1.0), 12, 0.01, close=verdict == CLOSE)


def gate(p: float) -> Gate:
    """A gate that fails where its p is at most the level."""
    return lambda alpha: decided(PASSED if p > alpha else FAILED, p)


NAN_GATE: Gate = lambda alpha: decided(FAILED, math.nan)  # noqa: E731


def failed(ps: Sequence[float], alpha: float = 0.01) -> list[bool]:
    return [one.failed for one in holm({str(i): gate(p) for i, p in enumerate(ps)}, alpha).values()]


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([0.009], [True]),
        ([0.009, 0.5], [False, False]),  # above 0.01 / 2
        ([0.004, 0.5], [True, False]),
        ([0.009, 0.004], [True, True]),  # the second is tested at 0.01 / 1
        ([0.004, 0.004, 0.002], [True, True, True]),
        ([0.004, 0.004, 0.004], [False, False, False]),
        ([], []),
    ],
)
def test_the_smallest_p_is_held_to_the_smallest_level(ps: Sequence[float], expected: list[bool]) -> None:
    assert failed(ps) == expected


def test_it_is_statsmodels_holm() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    import numpy as np

    for ps in np.random.default_rng(0).uniform(0, 0.03, (20, 5)):
        assert failed(list(ps)) == list(multitest.multipletests(ps, alpha=0.01, method="holm")[0])


def test_what_is_not_finite_fails_and_does_not_make_the_others_milder() -> None:
    found = holm({"nan": NAN_GATE, "one": gate(0.009), "other": gate(0.5)})
    assert [one.failed for one in found.values()] == [True, False, False]
    assert list(found) == ["nan", "one", "other"]


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([PASSED], PASSED),
        ([FAILED], None),
        ([FAILED, PASSED], None),
        ([FAILED, PASSED, PASSED], PASSED),
        ([FAILED, PASSED, FAILED], FAILED),
        ([FAILED, PASSED, UNSTABLE, PASSED], PASSED),
        ([FAILED, FAILED], FAILED),
        ([CLOSE], None),
        ([CLOSE, CLOSE], PASSED),
        ([CLOSE, PASSED], PASSED),
        ([UNSTABLE, CLOSE, UNSTABLE, PASSED], PASSED),
        ([CLOSE, FAILED], None),
        ([CLOSE, FAILED, FAILED], FAILED),
        ([FAILED, CLOSE, PASSED], PASSED),
        ([UNSTABLE], None),
        ([UNSTABLE, PASSED], PASSED),
        ([UNSTABLE, FAILED, FAILED], FAILED),
        ([FAILED, UNSTABLE, UNSTABLE, FAILED], FAILED),
        ([UNSTABLE] * (MOST_ROUNDS - 1), None),
        ([UNSTABLE] * MOST_ROUNDS, UNSTABLE),
        ([FAILED, *[UNSTABLE] * (MOST_ROUNDS - 1)], UNSTABLE),
    ],
)
def test_a_clear_pass_settles_it_and_otherwise_two_of_a_kind_do(verdicts: Sequence[str], outcome: str | None) -> None:
    found = settled([decided(verdict) for verdict in verdicts])
    assert (found and found.verdict) == outcome


def test_the_reason_says_what_became_of_an_alarm() -> None:
    passed = settled([decided(FAILED), decided(PASSED), decided(PASSED)])
    confirmed = settled([decided(FAILED), decided(FAILED)])
    assert passed is not None
    assert passed.reason == "passed; an alarm was not confirmed on fresh samples"
    close = settled([decided(CLOSE), decided(CLOSE)])
    assert close is not None
    assert close.reason == "close, confirmed on fresh samples"
    assert confirmed is not None
    assert confirmed.reason == "failed, confirmed on fresh samples"


def test_what_is_not_finite_is_not_asked_again() -> None:
    found = settled([NAN_GATE(0.01)])
    assert found is not None
    assert found.failed
