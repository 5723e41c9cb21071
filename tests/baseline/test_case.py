"""One test and its baseline: held to it, or accepted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from baseline.entries import HERE, an_entry, write
from baseline.regressions import EVALS, H200, SOUND, remembered, run, scaled

from pytest_ftcheck.acceptance import Acceptance
from pytest_ftcheck.baseline.case import Case, Seen
from pytest_ftcheck.baseline.fingerprint import Fingerprint
from pytest_ftcheck.baseline.metric import Curve, Metric
from pytest_ftcheck.baseline.metrics import metrics_of
from pytest_ftcheck.baseline.rules import Tolerances
from pytest_ftcheck.errors import AcceptanceError, RecipeError

TEST = "test_it.py::test_it"
NONE = Tolerances({})


def seen(subject: Any = SOUND, again: Any = None, code: str = "the code") -> Seen:
    """``again``: what repetitions show, one after the other; the same where it is None."""
    repeats = iter(again) if again is not None else iter(lambda: subject, None)
    environment = Fingerprint.of(subject.environment)
    return Seen(metrics_of(subject), environment, lambda: code, lambda: metrics_of(next(repeats)))


def leave(**changes: Any) -> Acceptance:
    return Acceptance("why", lambda line: None, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a baseline of TEST."""
    write(tmp_path, {TEST: an_entry()})
    return tmp_path


def held(case: Case, *shown: Seen) -> Case:
    for one in shown:
        case.hold(one, NONE)
    return case


def test_what_is_as_recorded_passes(folder: Path) -> None:
    case = held(Case(TEST, folder), seen())
    assert (case.status, case.environment) == ("passed", "cpu")
    assert case.unmeasured() == []


def test_all_that_is_worse_is_returned(folder: Path) -> None:
    case = Case(TEST, folder)
    bad = case.hold(seen(remembered(peak_bytes=200_000, optimizer_bytes=9000)), NONE)
    assert [c.metric for c in bad] == ["lora/memory.optimizer_bytes", "lora/memory.peak_bytes"]
    assert case.status == "failed"


@pytest.mark.parametrize("name", ["test_it.py::test_renamed", "test_moved.py::test_it", "test_it.py::test_it[new]"])
def test_a_test_that_is_new_or_renamed_has_no_baseline(folder: Path, name: str) -> None:
    case = held(Case(name, folder), seen())
    assert case.status == "no baseline"
    assert {c.verdict for c in case.comparisons} == {"new"}


def test_a_metric_that_is_new_has_no_baseline(folder: Path) -> None:
    own = Seen((Metric("own", 1),), HERE)
    assert held(Case(TEST, folder), seen(), own).status == "no baseline"


def test_a_metric_that_is_no_longer_measured_fails(tmp_path: Path) -> None:
    own = Metric("own", 3, "MiB")
    write(tmp_path, {TEST: an_entry(metrics={**an_entry().metrics, "own": own})})
    case = held(Case(TEST, tmp_path), seen())
    assert [c.line for c in case.unmeasured()] == ["own: 3 MiB; it is not measured any more"]
    assert case.status == "failed"
    assert held(Case(TEST, tmp_path), seen(), Seen((own,), HERE)).unmeasured() == []
    assert held(Case(TEST, tmp_path, leave=leave()), seen()).unmeasured() == []


def test_a_baseline_of_another_environment_alone_is_not_comparable(folder: Path) -> None:
    case = held(Case(TEST, folder), seen(run(environment=H200)))
    assert case.status == "not comparable"
    assert {c.note for c in case.comparisons} == {"recorded for cpu, and not for nvidia-h200"}


def test_one_test_has_one_environment(folder: Path) -> None:
    with pytest.raises(RecipeError, match="runs of cpu and of nvidia-h200; allowed: one environment"):
        held(Case(TEST, folder), seen(), Seen((Metric("x", 1),), Fingerprint.of(H200)))


def test_the_same_may_be_shown_twice_and_two_of_one_name_may_not(folder: Path) -> None:
    case = held(Case(TEST, folder), seen(), seen())
    assert len(case.comparisons) == len(metrics_of(SOUND))
    with pytest.raises(RecipeError, match=r"two metrics of the test are called 'lora/.*allowed: one \("):
        held(case, seen(run(seed=1)))


def test_what_is_far_better_is_stale_and_fails_on_demand(folder: Path) -> None:
    better = seen(remembered(peak_bytes=10_000))
    case = Case(TEST, folder)
    assert case.hold(better, NONE) == []
    assert [c.metric for c in case.comparisons if c.verdict == "stale"] == ["lora/memory.peak_bytes"]
    assert case.status == "passed"
    strict = Case(TEST, folder, stale_fails=True)
    assert [c.metric for c in strict.hold(better, NONE)] == ["lora/memory.peak_bytes"]
    assert strict.status == "failed"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({}, "the code", "the environment is the same"),
        ({"threads": 2}, "", "changed since: threads: 1 -> 2"),
        ({"versions": {"torch": "2.14.0"}}, "", "changed since: torch 2.13.0 -> 2.14.0"),
    ],
)
def test_a_failure_is_attributed_to_the_environment(folder: Path, change: dict[str, Any], code: str, text: str) -> None:
    now = run(environment=dataclasses.replace(SOUND.environment, **change))
    assert held(Case(TEST, folder), seen(now, code="")).attribution() == text


def test_a_failure_is_attributed_to_the_code_where_its_digest_is_known(tmp_path: Path) -> None:
    def attribution(code: str) -> str:
        case = held(Case(TEST, tmp_path, leave=leave()), seen(code="one"))
        write(tmp_path, {TEST: an_entry(code=case.code)})
        return held(Case(TEST, tmp_path), seen(code=code)).attribution()

    assert attribution("one") == "the environment is the same; the recipe's code and data are the same"
    assert attribution("two") == "changed since: the recipe's code or data"


# Accepting.


def test_what_is_seen_twice_alike_is_accepted(tmp_path: Path) -> None:
    case = held(Case(TEST, tmp_path, leave=leave()), seen())
    assert case.status == "accepted"
    assert case.accepted == {m.name: m for m in metrics_of(SOUND)}


def other_bits() -> Any:
    return run(evals={**EVALS, 100: math.nextafter(EVALS[100], 9)})


@pytest.mark.parametrize(
    "again",
    [
        other_bits,
        lambda: remembered(peak_bytes=102_000),
        lambda: remembered(peak_bytes=98_000),
        lambda: run(batches="others"),
        lambda: scaled(1.5),
    ],
    ids=["bits", "more memory", "less memory", "batches", "losses"],
)
def test_what_does_not_repeat_itself_is_not_accepted(tmp_path: Path, again: Callable[[], Any]) -> None:
    case = Case(TEST, tmp_path, leave=leave())
    with pytest.raises(AcceptanceError, match=r"not accepted: the training, done again, is not the same: lora/.* -> "):
        case.hold(seen(again=[again()]), NONE)
    assert case.accepted == {}


def test_times_need_not_repeat_and_are_kept_as_samples(tmp_path: Path) -> None:
    slower = run(samples_s=(0.02,) * 10)
    case = held(Case(TEST, tmp_path, leave=leave()), seen(again=[slower]))
    assert case.accepted["lora/time.step_s"].samples == (0.01, 0.02)
    assert case.accepted["lora/time.step_s"].value == 0.015


def test_times_within_their_tolerance_stay_as_they_are_recorded(folder: Path) -> None:
    def accepted(step_s: float, tolerance: dict[str, str]) -> Metric:
        case = Case(TEST, folder, leave=leave())
        case.hold(seen(run(samples_s=(step_s,) * 10)), Tolerances(tolerance))
        return case.accepted["lora/time.step_s"]

    assert accepted(0.0105, {}).value == 0.01
    assert accepted(0.0105, {"time.step_s": "2%"}).value == 0.0105
    assert accepted(0.02, {}).value == 0.02


def test_on_a_gpu_losses_need_not_repeat_to_the_bit(tmp_path: Path) -> None:
    case = held(Case(TEST, tmp_path, leave=leave()), seen(scaled(1.0), again=[scaled(1.00001)]))
    curve = case.accepted["lora/loss.eval"].value
    assert isinstance(curve, Curve)
    assert curve.bits == ""


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_not_finite_is_not_accepted(tmp_path: Path, loss: float) -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield run(evals={**EVALS, 50: loss})

    with pytest.raises(AcceptanceError, match=r"not accepted: lora/loss.eval is not finite"):
        Case(TEST, tmp_path, leave=leave()).hold(seen(run(evals={**EVALS, 50: loss}), again=endless()), NONE)


def test_new_only_holds_what_is_recorded_to_it_and_accepts_the_rest(folder: Path) -> None:
    case = Case(TEST, folder, leave=leave(new_only=True))
    (bad,) = case.hold(seen(remembered(peak_bytes=200_000)), NONE)
    assert bad.metric == "lora/memory.peak_bytes"
    case.hold(Seen((Metric("own", 1),), HERE), NONE)
    assert list(case.accepted) == ["own"]
    assert held(Case("test_it.py::test_new", folder, leave=leave(new_only=True)), seen()).status == "accepted"


def test_calibration_repeats_and_derives_tolerances(tmp_path: Path) -> None:
    peaks = iter([101_000, 99_000, 100_500, 99_500])
    again = (scaled(1 + 1e-4 * n, memory=dataclasses.replace(SOUND.memory, peak_bytes=next(peaks))) for n in range(4))
    case = held(Case(TEST, tmp_path, leave=leave(repeats=5)), seen(scaled(1.0), again=again))
    peak = case.accepted["lora/memory.peak_bytes"]
    assert len(peak.samples) == 5
    assert float(peak.limit.rstrip("%")) > 1
    assert float(case.accepted["lora/loss.eval"].limit.rstrip("%")) > 0.02
    assert case.accepted["lora/memory.weights_bytes"].limit == ""


def test_calibration_too_wants_what_is_exact_to_repeat(tmp_path: Path) -> None:
    again = [SOUND, remembered(optimizer_bytes=9000), SOUND]
    with pytest.raises(AcceptanceError, match=r"is not the same: lora/memory.optimizer_bytes: 4.1 kB -> 9 kB"):
        Case(TEST, tmp_path, leave=leave(repeats=4)).hold(seen(again=again), NONE)


def test_a_calibrated_tolerance_is_what_is_held_to_later(tmp_path: Path) -> None:
    wide = dataclasses.replace(an_entry().metrics["lora/memory.peak_bytes"], limit="5%")
    write(tmp_path, {TEST: an_entry(metrics={**an_entry().metrics, wide.name: wide})})
    assert Case(TEST, tmp_path).hold(seen(remembered(peak_bytes=104_900)), NONE) == []
    (bad,) = Case(TEST, tmp_path).hold(seen(remembered(peak_bytes=105_100)), NONE)
    assert bad.limit == "+5 %"


RETRIED = dataclasses.replace(
    SOUND,
    batch_size=SOUND.batch_size // 2,
    accumulation=2 * SOUND.accumulation,
    retried="batch_size 4 -> 2 after out of memory",
    memory=dataclasses.replace(SOUND.memory, peak_bytes=1),
)


def test_of_a_run_that_was_retried_only_parameters_and_settings_are_held_to_the_baseline(folder: Path) -> None:
    case = held(Case(TEST, folder), seen(RETRIED))
    assert case.status == "passed"
    compared = {c.metric.rpartition("/")[2] for c in case.comparisons if c.verdict != "not comparable"}
    assert compared == {"settings", "parameters.total", "parameters.trainable", "parameters.names"}
    others = [c for c in case.comparisons if c.verdict == "not comparable"]
    assert {c.note for c in others} == {RETRIED.retried}
    assert {c.value for c in others} == {None}  # no history has them


def test_a_retry_hides_no_other_change_of_settings_or_parameters(folder: Path) -> None:
    assert held(Case(TEST, folder), seen(dataclasses.replace(RETRIED, steps=RETRIED.steps + 1))).status == "failed"


def test_a_run_that_was_retried_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(AcceptanceError, match="is batch_size 4 -> 2 after out of memory"):
        held(Case(TEST, tmp_path, leave()), seen(RETRIED))
