"""From repetitions to a tolerance."""

from __future__ import annotations

import random

import pytest

from pytest_ftcheck.baseline.calibration import FALSE_ALARMS, summarised
from pytest_ftcheck.baseline.metric import Curve, Metric
from pytest_ftcheck.baseline.tolerance import tolerance


def calibrated(values: list[float], name: str = "lora/memory.peak_bytes") -> Metric:
    (found,) = summarised([(Metric(name, value, "bytes", "lower"),) for value in values], derive=True)
    return found


def test_the_samples_are_kept_and_the_median_is_the_value() -> None:
    found = calibrated([100.0, 104.0, 101.0])
    assert (found.value, found.samples) == (101.0, (100.0, 104.0, 101.0))


def test_a_larger_spread_gives_a_larger_tolerance() -> None:
    limits = [tolerance(calibrated([100 - d, 100.0, 100 + d]).limit, "x", "bytes").relative for d in (0.1, 1.0)]
    assert limits[0] is not None
    assert limits[1] == pytest.approx(10 * limits[0], rel=1e-3)


def test_repetitions_that_are_all_alike_leave_a_tenth_of_the_usual_tolerance() -> None:
    assert calibrated([100.0] * 5).limit == "0.1%"
    assert calibrated([100.0] * 5, "lora/time.step_s").limit == "1%"


def test_what_is_exact_gets_no_tolerance() -> None:
    found = calibrated([100] * 5, "lora/memory.weights_bytes")
    assert (found.limit, found.samples) == ("", ())


def test_a_curve_that_repeats_to_the_bit_keeps_its_bits_and_another_gets_a_band() -> None:
    def of(*lasts: float) -> Metric:
        curves = [Curve((1, 2), (3.0, last), str(last)) for last in lasts]
        (found,) = summarised([(Metric("lora/loss.eval", curve, "nats"),) for curve in curves], derive=True)
        return found

    assert of(2.0, 2.0, 2.0).value == Curve((1, 2), (3.0, 2.0), "2.0")
    assert of(2.0, 2.0, 2.0).limit == ""
    noisy = of(2.0, 2.01, 1.99)
    assert noisy.value == Curve((1, 2), (3.0, 2.0))
    assert float(noisy.limit.rstrip("%")) > 1


def test_two_runs_are_no_calibration() -> None:
    pairs = [(Metric("lora/memory.peak_bytes", value, "bytes"),) for value in (100, 101)]
    (found,) = summarised(pairs, derive=False)
    assert (found.value, found.samples, found.limit) == (100.5, (100.0, 101.0), "")


@pytest.mark.parametrize("count", [3, 5, 10])
def test_another_run_of_the_same_goes_beyond_the_tolerance_as_rarely_as_is_said(count: int) -> None:
    draw = random.Random(count)
    beyond = 0
    trials = 4000
    for _ in range(trials):
        *repeats, new = (100 + 3 * draw.gauss(0, 1) for _ in range(count + 1))
        found = calibrated(repeats)
        assert isinstance(found.value, float)
        limit = tolerance(found.limit, "x", "bytes")
        beyond += new - found.value > limit.allowed(found.value)
    # Around the median and not the mean, it is a little more than FALSE_ALARMS: four of a thousand at the most.
    assert beyond / trials < 4 * FALSE_ALARMS
