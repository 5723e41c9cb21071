"""How much is allowed, as people write it."""

from __future__ import annotations

import pytest

from pytest_ftcheck.baseline.metric import Curve, Metric
from pytest_ftcheck.baseline.rules import Chosen, Tolerances, default
from pytest_ftcheck.baseline.tolerance import ALLOWED, Tolerance, tolerance
from pytest_ftcheck.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("2%", "bytes", Tolerance(relative=0.02)),
        (" 0.5 % ", "s", Tolerance(relative=0.005)),
        ("24 MiB", "bytes", Tolerance(absolute=24 * 2**20)),
        ("512B", "bytes", Tolerance(absolute=512)),
        ("1 GB", "MB", Tolerance(absolute=1000)),
        ("0.5 ms", "s", Tolerance(absolute=0.0005)),
        ("2 s", "ms", Tolerance(absolute=2000)),
        ("0.01", "nats", Tolerance(absolute=0.01)),
        ("0.01 nats", "nats", Tolerance(absolute=0.01)),
        ("1e-6", "", Tolerance(absolute=1e-6)),
        ("0", "FLOP", Tolerance(absolute=0.0)),
        ("+2%", "s", Tolerance(relative=0.02, direction="lower")),
        ("- 2%", "s", Tolerance(relative=0.02, direction="higher")),
        ("warn 10%", "s", Tolerance(relative=0.1, warns=True)),
        ("warn +10%", "s", Tolerance(relative=0.1, direction="lower", warns=True)),
    ],
)
def test_a_text_stands_for_a_tolerance(text: str, unit: str, expected: Tolerance) -> None:
    found = tolerance(text, "x", unit)
    assert found.absolute == (None if expected.absolute is None else pytest.approx(expected.absolute))
    assert (found.relative, found.direction, found.warns) == (expected.relative, expected.direction, expected.warns)


@pytest.mark.parametrize("text", ["", "much", "%", "2 %%", "--2%", "nan", "inf%", "error 2%", 2, None, 0.02])
def test_anything_else_is_refused_with_what_is_allowed(text: object) -> None:
    with pytest.raises(RecipeError) as caught:
        tolerance(text, "lora/time.step_s", "s")
    assert str(caught.value) == f"tolerance of lora/time.step_s is {text!r}; allowed: {ALLOWED}"


@pytest.mark.parametrize(("text", "unit"), [("2 ms", "bytes"), ("24 MiB", "s"), ("3 nats", "FLOP"), ("1 MiB", "")])
def test_a_unit_of_something_else_is_refused(text: str, unit: str) -> None:
    with pytest.raises(RecipeError, match=f"tolerance of x is '{text}', and it is in {unit or 'no unit'}; allowed"):
        tolerance(text, "x", unit)


PEAK = Metric("lora/memory.peak_bytes", 1000, "bytes", "lower")


def test_the_most_precise_name_wins_and_the_test_wins_over_the_options() -> None:
    def chosen(of_test: dict[str, str], of_options: dict[str, str]) -> Chosen:
        return Tolerances(of_test, of_options).of(PEAK)

    every = {"memory": "1%", "memory.peak_bytes": "2%", "lora/memory.peak_bytes": "3%"}
    for name, limit in (("lora/memory.peak_bytes", 0.03), ("memory.peak_bytes", 0.02), ("memory", 0.01)):
        assert chosen(every, {}) == Chosen(Tolerance(relative=limit), "the test")
        assert chosen({}, every) == Chosen(Tolerance(relative=limit), "an option")
        del every[name]
    assert chosen({"memory": "5%"}, {"lora/memory.peak_bytes": "3%"}).tolerance == Tolerance(relative=0.05)
    assert chosen({"memory.weights_bytes": "5%"}, {"time": "3%"}).by == "default"


def test_what_calibration_found_stands_before_the_usual_and_behind_what_somebody_says() -> None:
    recorded = Metric(PEAK.name, 1000, "bytes", "lower", limit="0.3%")
    assert Tolerances({}).of(PEAK, recorded) == Chosen(Tolerance(relative=0.003), "calibration")
    assert Tolerances({"memory": "5%"}).of(PEAK, recorded).by == "the test"
    slow = Metric("lora/time.step_s", 1.0, "s", limit="3%")
    assert Tolerances({}).of(slow, slow).tolerance == Tolerance(relative=0.03, warns=True)


def test_a_tolerance_of_nothing_is_refused() -> None:
    tolerances = Tolerances({"memory.peek_bytes": "2%"})
    with pytest.raises(RecipeError, match=r"tolerance names 'memory\.peek_bytes'; allowed: memory\.peak_bytes, their"):
        tolerances.refuse_wrong((PEAK,))
    with pytest.raises(RecipeError, match="tolerance='2%'; allowed: a dictionary such as"):
        Tolerances("2%")  # type: ignore[arg-type]
    Tolerances({}, {"memory.peek_bytes": "2%"}).refuse_wrong((PEAK,))  # an option is for all tests
    with pytest.raises(RecipeError, match=r"tolerance of lora/memory\.peak_bytes is 'much'; allowed"):
        Tolerances({}, {"memory": "much"}).refuse_wrong((PEAK,))


@pytest.mark.parametrize(
    ("metric", "exact"),
    [
        (Metric("own", 3), True),
        (Metric("own", 0.3), False),
        (Metric("a/memory_ratio.static", 0.3), True),
        (Metric("a/flops_ratio", 0.3), True),
        (Metric("a/memory.weights_bytes", 3), True),
        (Metric("a/memory.peak_bytes", 3), False),
        (Metric("a/loss.eval", Curve((1,), (1.0,))), False),
    ],
)
def test_whole_numbers_and_quotients_of_counts_are_exact(metric: Metric, exact: bool) -> None:
    assert default(metric).exact == exact
