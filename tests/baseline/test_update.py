"""Writing what was accepted, and saying what changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from baseline.entries import an_entry, write
from baseline.regressions import SOUND, remembered, run

from pytest_ftcheck.baseline.entry import Acceptation, Entry
from pytest_ftcheck.baseline.metric import Metric
from pytest_ftcheck.baseline.store import BaselineFile
from pytest_ftcheck.baseline.update import Proposal
from pytest_ftcheck.baseline.update import write as write_accepted

TEST = "test_it.py::test_it"


def proposal(folder: Path, entry: Entry, test: str = TEST, new_only: bool = False) -> Proposal:
    return Proposal(str(folder), entry.fingerprint.environment_class, test, json.dumps(entry.to_data()), new_only)


def stored(folder: Path, test: str = TEST) -> Entry | None:
    return BaselineFile(folder, "cpu").entry(test)


def elsewhere(**changes: Any) -> Entry:
    return an_entry(run(environment=dataclasses.replace(SOUND.environment, **changes)))


def test_a_new_entry_is_written_and_told(tmp_path: Path) -> None:
    told, failures = write_accepted([proposal(tmp_path, an_entry())])
    assert stored(tmp_path) == an_entry()
    assert told == [f"{TEST} in {tmp_path}/cpu.json: 17 metrics, new"]
    assert failures == []


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (elsewhere(threads=2), "the environment changed (threads: 1 -> 2), the code is the same"),
        (an_entry(remembered(peak_bytes=9), code="other"), "the environment is the same, the code changed"),
        (
            an_entry(remembered(peak_bytes=9), code="", accepted=Acceptation("why", "ba9876543210")),
            "the environment is the same, commit 0123456789ab -> ba9876543210",
        ),
    ],
)
def test_it_is_said_whether_the_code_or_the_environment_changed(tmp_path: Path, entry: Entry, why: str) -> None:
    write(tmp_path, {TEST: an_entry()})
    told, _ = write_accepted([proposal(tmp_path, entry)])
    assert told[0] == f"{TEST} in {tmp_path}/cpu.json: {why}"
    assert stored(tmp_path) == entry


def test_each_metric_is_told_old_and_new_and_many_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {TEST: an_entry()})
    told, _ = write_accepted([proposal(tmp_path, an_entry(remembered(peak_bytes=140_000)))])
    assert told[1:] == ["  lora/memory.peak_bytes: 100 kB -> 140 kB"]
    metrics = {f"own{n}": Metric(f"own{n}", n) for n in range(9)}
    told, _ = write_accepted([proposal(tmp_path, an_entry(metrics=metrics))])
    assert told[-1] == "  and 20 more"
    assert "  lora/batches: the batches -> -" in told


def test_another_reason_alone_is_nothing_new(tmp_path: Path) -> None:
    write(tmp_path, {TEST: an_entry()})
    before = (tmp_path / "cpu.json").read_bytes()
    assert write_accepted([proposal(tmp_path, an_entry(accepted=Acceptation("again", "")))]) == ([], [])
    assert (tmp_path / "cpu.json").read_bytes() == before


def test_new_only_keeps_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {TEST: an_entry()})
    own = Metric("own", 3)
    changed = an_entry(remembered(peak_bytes=9))
    entry = dataclasses.replace(changed, metrics={**changed.metrics, "own": own})
    write_accepted([proposal(tmp_path, entry, new_only=True)])
    found = stored(tmp_path)
    assert found is not None
    assert found.metrics == {**an_entry().metrics, "own": own}


def test_what_is_new_is_not_put_beside_what_another_environment_gave(tmp_path: Path) -> None:
    write(tmp_path, {TEST: an_entry()})
    told, failures = write_accepted([proposal(tmp_path, elsewhere(threads=2), new_only=True)])
    assert told == []
    assert failures == [
        f"{TEST}: not accepted: the baselines that stay are of another environment (threads: 1 -> 2); "
        "use --ftcheck-update"
    ]
    assert stored(tmp_path) == an_entry()


def test_one_damaged_file_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    write(bad, {TEST: an_entry()})
    (bad / "cpu.json").write_text("{")
    _, failures = write_accepted([proposal(folder, an_entry()) for folder in (bad, good)])
    assert [failure.startswith(f"nothing was accepted: {bad}/cpu.json:1: not JSON") for failure in failures] == [True]
    assert stored(good) == an_entry()


def test_a_proposal_survives_the_way_from_a_worker(tmp_path: Path) -> None:
    made = proposal(tmp_path, an_entry())
    assert Proposal.from_json(made.to_json()) == made
