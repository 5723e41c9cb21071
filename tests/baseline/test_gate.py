"""The gate: every metric's can fire, at the size that is promised, and does not one step below it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from baseline.regressions import (
    DRIFTS,
    EVALS,
    H200,
    ON_A_GPU,
    ON_GPU,
    PAIR,
    PREDICTED,
    REGRESSIONS,
    SOUND,
    pair,
    remembered,
    run,
    scaled,
)

from pytest_ftcheck.baseline.comparison import Comparison
from pytest_ftcheck.baseline.fingerprint import Fingerprint
from pytest_ftcheck.baseline.gate import Recorded, compare
from pytest_ftcheck.baseline.metric import Metric
from pytest_ftcheck.baseline.metrics import metrics_of
from pytest_ftcheck.baseline.rules import Tolerances
from pytest_ftcheck.run import Environment

HERE = Fingerprint.of(SOUND.environment)


def fingerprint(subject: Any) -> Fingerprint:
    environment = getattr(subject, "environment", SOUND.environment)
    return Fingerprint.of(environment) if isinstance(environment, Environment) else HERE


def gate(before: Any, now: Any, tolerance: dict[str, str] | None = None) -> dict[str, Comparison]:
    recorded = Recorded({m.name: m for m in metrics_of(before)}, fingerprint(before))
    found = compare(recorded, metrics_of(now), fingerprint(now), Tolerances(tolerance or {}))
    return {c.metric: c for c in found}


def one(before: Metric, now: Metric, tolerance: str | None = None, at: Fingerprint = HERE) -> Comparison:
    limits = {} if tolerance is None else {now.name: tolerance}
    (found,) = compare(Recorded({before.name: before}, HERE), [now], at, Tolerances(limits))
    return found


def verdicts(found: dict[str, Comparison], *of: str) -> set[str]:
    return {name for name, comparison in found.items() if comparison.verdict in of}


@pytest.mark.parametrize("metric", REGRESSIONS)
def test_a_regression_of_the_promised_size_fails(metric: str) -> None:
    before, now, tolerance = REGRESSIONS[metric]
    found = gate(before, now, tolerance)
    assert found[metric].verdict == "failed"
    assert found[metric].line.startswith(f"{metric}: ")


@pytest.mark.parametrize("metric", ON_A_GPU)
def test_so_it_does_on_a_gpu(metric: str) -> None:
    before, now, tolerance = ON_A_GPU[metric]
    assert gate(before, now, tolerance)[metric].verdict == "failed"


def test_every_metric_there_is_has_a_regression() -> None:
    kinds = {m.kind for subject in (SOUND, PAIR, PREDICTED) for m in metrics_of(subject)}
    assert kinds == {name.rpartition("/")[2] for name in REGRESSIONS}


@pytest.mark.parametrize("subject", [SOUND, ON_GPU, PAIR, PREDICTED], ids=["run", "GPU", "pair", "prediction"])
def test_what_is_the_same_passes(subject: Any) -> None:
    found = gate(subject, subject)
    assert verdicts(found, "passed") == set(found)
    assert len(found) >= 10


@pytest.mark.parametrize(
    ("now", "metric"),
    [(remembered(peak_bytes=101_000), "lora/memory.peak_bytes"), (remembered(activations_bytes=10_100), "lora/memory")],
)
def test_measured_memory_passes_up_to_one_percent(now: Any, metric: str) -> None:
    assert verdicts(gate(SOUND, now), "failed", "stale") == set()


@pytest.mark.parametrize("factor", [1.0009, 0.9991])
def test_losses_on_a_gpu_pass_within_their_band(factor: float) -> None:
    assert verdicts(gate(ON_GPU, scaled(factor)), "failed", "stale") == set()


@pytest.mark.parametrize("way", DRIFTS)
def test_losses_that_drift_to_one_side_fail_within_the_band_of_a_single_one(way: str) -> None:
    found = gate(ON_GPU, DRIFTS[way]())
    assert verdicts(found, "failed") == {"lora/loss.train", "lora/loss.eval"}
    assert "mean drift" in found["lora/loss.eval"].note
    assert "limit ±0.1 %" in found["lora/loss.eval"].note


def test_the_bits_of_a_gpu_are_not_held_to_unless_it_is_deterministic() -> None:
    now = run(environment=H200, evals={**EVALS, 100: math.nextafter(EVALS[100], 3)})
    assert gate(ON_GPU, now)["lora/loss.eval"].verdict == "passed"
    exact = dataclasses.replace(H200, deterministic=True)
    before, now = run(environment=exact), dataclasses.replace(now, environment=exact)
    assert gate(before, now)["lora/loss.eval"].verdict == "failed"


@pytest.mark.parametrize(
    "change",
    [{"versions": {"torch": "2.14.0"}}, {"device_name": "another processor"}, {"threads": 2}, {"deterministic": True}],
)
def test_bits_are_held_to_only_where_they_must_be_the_same(change: dict[str, Any]) -> None:
    environment = dataclasses.replace(SOUND.environment, **change)
    nearly = {step: loss * (1 + 1e-9) for step, loss in EVALS.items()}
    assert gate(SOUND, run(evals=nearly, environment=environment))["lora/loss.eval"].verdict == "passed"
    off = {step: loss * 1.003 for step, loss in EVALS.items()}
    assert gate(SOUND, run(evals=off, environment=environment))["lora/loss.eval"].verdict == "failed"


def test_another_python_computes_the_same_bits() -> None:
    environment = dataclasses.replace(SOUND.environment, python="3.12.1")
    now = run(evals={**EVALS, 100: math.nextafter(EVALS[100], 3)}, environment=environment)
    assert gate(SOUND, now)["lora/loss.eval"].verdict == "failed"


def test_a_change_of_bits_says_how_large_it_is_and_where() -> None:
    found = gate(SOUND, run(evals={**EVALS, 50: 2.5 * (1 + 1e-7)}))["lora/loss.eval"]
    assert found.line == (
        "lora/loss.eval: 2.5 -> 2.50000025 at step 50 (+1e-05 %, limit the same bits); this is the largest difference"
    )


def test_losses_at_other_steps_fail_with_a_sentence() -> None:
    found = gate(SOUND, run(evals={10: 2.9}))["lora/loss.eval"]
    assert found.verdict == "failed"
    assert found.line == "lora/loss.eval: 3 losses to step 100 -> 1 losses to step 10; losses at other steps"


@pytest.mark.parametrize("tolerance", ["0.5%", "0.02 nats", "0.02"])
def test_a_tolerance_of_the_user_s_is_a_band_in_place_of_the_bits(tolerance: str) -> None:
    near = run(evals={step: loss + 0.004 for step, loss in EVALS.items()})
    far = run(evals={step: loss + 0.03 for step, loss in EVALS.items()})
    assert gate(SOUND, near)["lora/loss.eval"].verdict == "failed"
    assert gate(SOUND, near, {"loss.eval": tolerance})["lora/loss.eval"].verdict == "passed"
    assert gate(SOUND, far, {"loss.eval": tolerance})["lora/loss.eval"].verdict == "failed"


def test_a_loss_near_the_floor_of_its_task_is_measured_by_the_size_of_the_curve() -> None:
    falling = {10: 1.0, 100: 1e-8}
    before = run(environment=H200, evals=falling)
    assert gate(before, run(environment=H200, evals={**falling, 100: 1e-6}))["lora/loss.eval"].verdict == "passed"
    assert gate(before, run(environment=H200, evals={**falling, 100: 1e-3}))["lora/loss.eval"].verdict == "failed"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("tolerance", [None, "1000%", "warn 1000%"])
def test_what_is_no_number_fails_whatever_is_allowed(value: float, tolerance: str | None) -> None:
    assert one(Metric("x", 1.0), Metric("x", value), tolerance).verdict == "failed"
    found = gate(SOUND, run(evals={**EVALS, 50: value}), {} if tolerance is None else {"loss": tolerance})
    assert found["lora/loss.eval"].verdict == "failed"


def test_names_say_which_kinds_have_come_and_gone() -> None:
    before, now, _ = REGRESSIONS["lora/parameters.names"]
    found = gate(before, now)["lora/parameters.names"]
    assert "lora_A.default.weight float32 2x4 trainable: 1 -> 0" in found.note
    assert "lora_a float32 2x4 trainable: 0 -> 1" in found.note


def test_the_same_kinds_in_another_layer_are_other_names() -> None:
    layers = [run(parameters=dataclasses.replace(SOUND.parameters, tensors=_moved_to(layer))) for layer in ("3", "5")]
    found = gate(*layers)["lora/parameters.names"]
    assert found.verdict == "failed"
    assert found.note == "other layers than before, as many of each kind"


def _moved_to(layer: str) -> tuple[Any, ...]:
    tensors = SOUND.parameters.tensors
    return tuple(dataclasses.replace(t, name=t.name.replace("h.0", f"h.{layer}")) for t in tensors)


@pytest.mark.parametrize(
    ("direction", "now", "verdict"),
    [
        ("lower", 1.02, "failed"),
        ("lower", 1.005, "passed"),
        ("lower", 0.995, "passed"),
        ("lower", 0.9, "stale"),
        ("higher", 0.98, "failed"),
        ("higher", 1.1, "stale"),
        ("same", 0.98, "failed"),
        ("same", 1.02, "failed"),
        ("same", 1.005, "passed"),
    ],
)
def test_a_direction_says_what_is_for_the_worse(direction: Any, now: float, verdict: str) -> None:
    assert one(Metric("x", 1.0, "", direction), Metric("x", now, "", direction)).verdict == verdict


@pytest.mark.parametrize(
    ("tolerance", "now", "verdict"),
    [
        ("+2%", 1.03, "failed"),
        ("+2%", 0.5, "stale"),
        ("-2%", 0.97, "failed"),
        ("-2%", 1.5, "stale"),
        ("warn 2%", 1.03, "warning"),
        ("warn +2%", 0.5, "passed"),
        ("0", 1.0000001, "failed"),
        ("0.5", 1.5, "passed"),
    ],
)
def test_a_sign_and_a_word_say_which_way_and_how_grave(tolerance: str, now: float, verdict: str) -> None:
    assert one(Metric("x", 1.0), Metric("x", now), tolerance).verdict == verdict


def test_time_warns_unless_somebody_asks_for_more_and_says_nothing_of_another_machine() -> None:
    _, slow, _ = REGRESSIONS["lora/time.step_s"]
    assert verdicts(gate(SOUND, slow), "warning") == {"lora/time.step_s", "lora/time.tokens_per_s"}
    elsewhere = dataclasses.replace(slow, environment=dataclasses.replace(SOUND.environment, device_name="another"))
    found = gate(SOUND, elsewhere, {"time": "10%"})
    assert verdicts(found, "not comparable") == {"lora/time.step_s", "lora/time.tokens_per_s"}
    assert verdicts(found, "failed") == set()


def test_an_order_that_is_only_just_decided_warns_and_one_that_turns_round_fails() -> None:
    undecided = pair(0.0)
    assert gate(PAIR, undecided)["full to lora/loss_order"].verdict == "warning"
    assert gate(undecided, PAIR)["full to lora/loss_order"].verdict == "warning"
    assert gate(PAIR, pair(-0.25))["full to lora/loss_order"].verdict == "failed"


def test_a_metric_without_a_baseline_is_new_and_no_pass() -> None:
    found = compare(Recorded({}, HERE), metrics_of(SOUND), HERE, Tolerances({}))
    assert {c.verdict for c in found} == {"new"}


def test_another_kind_or_unit_is_not_compared_as_if_it_were_the_same() -> None:
    assert "another kind" in one(Metric("x", "a word"), Metric("x", 1.0)).note
    found = one(Metric("x", 1.0, "s"), Metric("x", 1.0, "ms"))
    assert (found.verdict, found.note) == ("failed", "its unit was s, and is ms")
    assert one(Metric("x", 1), Metric("x", 1.0)).verdict == "passed"


@pytest.mark.parametrize(
    ("before", "now", "unit", "line"),
    [
        (301_000_000, 421_400_000, "bytes", "x: 301 MB -> 421 MB (+40 %, limit no more)"),
        (10**8, 10**8 + 1, "bytes", "x: 100,000,000 bytes -> 100,000,001 bytes (+1 bytes, limit no more)"),
        (0.010, 0.0125, "s", "x: 10 ms -> 12.5 ms (+25 %, limit +1 %)"),
        (0, 3, "FLOP", "x: 0 FLOP -> 3 FLOP (+3 FLOP, limit no more)"),
    ],
)  # fmt: skip
def test_a_line_says_what_from_to_by_how_much_and_the_limit(before: Any, now: Any, unit: str, line: str) -> None:
    assert one(Metric("x", before, unit, "lower"), Metric("x", now, unit, "lower")).line == line
