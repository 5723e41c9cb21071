"""The file of baselines: read in reviews, merged by git, damaged by both, and written by several at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from baseline.entries import HERE, an_entry, write
from baseline.regressions import H200, SOUND, run

from pytest_ftcheck.baseline import store
from pytest_ftcheck.baseline.case import Case, Seen
from pytest_ftcheck.baseline.entry import Entry
from pytest_ftcheck.baseline.metric import Curve, Metric, Names
from pytest_ftcheck.baseline.metrics import metrics_of
from pytest_ftcheck.baseline.rules import Tolerances
from pytest_ftcheck.baseline.store import WIDTH, BaselineFile, refuse_unwritable
from pytest_ftcheck.errors import RecordError

TEST = "test_it.py::TestIt::test_it[a-ü-]]"


@pytest.fixture
def file(tmp_path: Path) -> BaselineFile:
    """A file with two entries."""
    return write(tmp_path / "__ftcheck__", {TEST: an_entry(), "test_it.py::test_other": an_entry()})


def test_what_is_written_is_read_again_to_the_bit(file: BaselineFile) -> None:
    assert file.entry(TEST) == an_entry()
    assert BaselineFile(file.path.parent, "cpu").entry(TEST) == an_entry()


def test_every_kind_of_metric_is_read_again(tmp_path: Path) -> None:
    metrics = (
        Metric("whole", 3, "MiB", "higher", (3.0, 4.0), "2%"),
        Metric("fraction", 0.1 + 0.2),
        Metric("word", "undecided"),
        Metric("curve", Curve((1, 2), (0.1, 1 / 3), "bits"), "nats"),
        Metric("names", Names({"a": 1}, "digest")),
    )
    entry = an_entry(metrics={m.name: m for m in metrics})
    assert write(tmp_path, {TEST: entry}).entry(TEST) == entry


def test_there_is_no_entry_where_none_was_written(file: BaselineFile, tmp_path: Path) -> None:
    assert file.entry("test_it.py::test_it") is None
    assert file.entry("test_it.py::TestIt::test_it[a-ü-]") is None
    assert BaselineFile(tmp_path / "nowhere", "cpu").entry(TEST) is None
    assert not (tmp_path / "nowhere").exists()


def test_other_entries_stay_and_equal_entries_make_equal_files(file: BaselineFile, tmp_path: Path) -> None:
    before = file.path.read_bytes()
    write(file.path.parent, {TEST: an_entry(run(seed=1))})
    assert file.path.read_bytes() != before
    assert set(BaselineFile(file.path.parent, "cpu").tests()) == {TEST, "test_it.py::test_other"}
    write(file.path.parent, {TEST: an_entry()})
    assert file.path.read_bytes() == before


def test_nothing_is_written_where_nothing_changes(file: BaselineFile) -> None:
    stamp = file.path.stat().st_mtime_ns
    write(file.path.parent, {TEST: an_entry()})
    assert file.path.stat().st_mtime_ns == stamp


def test_the_file_is_sorted_with_a_line_for_each_metric_and_none_too_long(file: BaselineFile) -> None:
    text = file.path.read_text()
    assert '        "lora/flops.forward": {"unit": "FLOP", "value": 1200},\n' in text
    assert max(map(len, text.splitlines())) <= WIDTH + 20
    assert json.loads(text) == json.loads(json.dumps(json.loads(text), sort_keys=True))
    assert list(json.loads(text)["tests"]) == sorted(json.loads(text)["tests"])


def test_the_file_names_no_host_no_person_and_no_path(file: BaselineFile) -> None:
    text = file.path.read_text()
    for private in (os.uname().nodename, str(Path.home()), str(file.path.parent), os.environ.get("USER", "")):
        assert len(private) < 4 or private not in text


def test_a_file_that_another_program_has_formatted_is_read_too(file: BaselineFile) -> None:
    for indent in (None, 1, 4):
        file.path.write_text(json.dumps(json.loads(file.path.read_text()), indent=indent))
        assert BaselineFile(file.path.parent, "cpu").entry(TEST) == an_entry()


Damage = Callable[[str], str]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "conflict": (
        lambda t: t.replace('    "test_it', '<<<<<<< ours\n    "test_it', 1),
        r":5: an unresolved merge confl",
    ),
    "conflict elsewhere": (lambda t: t + "=======\n", r":\d+: an unresolved merge conflict"),
    "cut off": (lambda t: t[: t.index('"lora/flops.forward"')], r":\d+: not JSON: "),
    "twice": (lambda t: t.replace('"code"', '"code": "",\n"code"', 1), r":\d+: two entries are called 'code'"),
    "NaN": (lambda t: t.replace('"value": 1200', '"value": NaN'), r":\d+: NaN is not a number that can be compared"),
    "infinite": (lambda t: t.replace('"value": 1200', '"value": 1e999'), "expected numbers that can be compared"),
    "a word": (lambda t: t.replace('"value": 1200', '"value": "many"'), "value is 'many'; expected float"),
    "nothing": (lambda t: t.replace('"value": 1200', '"unitt": 3'), "expected one of curve, names, text, value"),
    "too much": (lambda t: t.replace('"value": 1200', '"value": 3, "x": 3'), "expected no x"),
    "better": (lambda t: t.replace('"better": "lower"', '"better": "red"'), "better is 'red'; expected lower"),
    "no metrics": (lambda t: t.replace('"metrics"', '"metricks"'), "expected accepted, code, fingerprint and metrics"),
    "threads": (lambda t: t.replace('"threads": 1', '"threads": "1"'), "fingerprint.threads is '1'; expected int"),
    "environment": (
        lambda t: t.replace('"environment": "cpu"', '"environment": "gpu"'),
        r":2: environment is 'gpu' in",
    ),
    "two": (
        lambda t: t.replace('"device": "cpu"', '"device": "cuda"').replace('"name": "x86_64"', '"name": "NVIDIA B200"'),
        "a baseline of nvidia-b200 in the file of cpu: two environments in one file",
    ),
    "newer": (lambda t: t.replace('"format": 1', '"format": 7'), r":3: format 7 is of a newer pytest-ftcheck"),
    "no format": (lambda t: t.replace('"format": 1', '"format": "x"'), r":3: format is 'x'; expected a number up to 1"),
    "a list": (lambda t: "[]", ":1: expected an object with environment, format and tests"),
    "tests": (lambda t: '{"environment": "cpu", "format": 1, "tests": 3}', ":1: expected an object"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_error_with_file_and_line(file: BaselineFile, damage: str) -> None:
    change, message = DAMAGES[damage]
    before = file.path.read_text()
    file.path.write_text(change(before))
    assert file.path.read_text() != before
    with pytest.raises(RecordError, match=message) as caught:
        BaselineFile(file.path.parent, "cpu").entry(TEST)
    assert str(caught.value).startswith(f"{file.path}:")


def test_the_line_is_that_of_the_metric_in_the_entry_that_was_asked_for(file: BaselineFile) -> None:
    lines = file.path.read_text().splitlines()
    numbers = [n for n, line in enumerate(lines, start=1) if '"lora/flops.forward"' in line]
    assert len(numbers) == 2
    lines[numbers[1] - 1] = lines[numbers[1] - 1].replace("1200", "null")
    file.path.write_text("\n".join(lines) + "\n")
    damaged = BaselineFile(file.path.parent, "cpu")
    with pytest.raises(RecordError, match=rf"cpu.json:{numbers[1]}: value is 'None'; expected float"):
        damaged.entry("test_it.py::test_other")
    assert damaged.entry(TEST) == an_entry()


def test_a_damaged_file_is_not_written_over(file: BaselineFile) -> None:
    file.path.write_text("<<<<<<< ours\n")
    with pytest.raises(RecordError, match="merge conflict"):
        write(file.path.parent, {"new": an_entry()})
    assert file.path.read_text() == "<<<<<<< ours\n"


def test_a_body_that_fails_writes_nothing(file: BaselineFile) -> None:
    before = file.path.read_bytes()

    def fail() -> None:
        with file.changing() as tests:
            tests.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.path.read_bytes() == before


def test_an_older_format_is_read_and_written_in_today_s(file: BaselineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    old = file.path.read_text().replace('"code"', '"sources"')

    def upgrade(data: dict[str, Any]) -> dict[str, Any]:
        tests = {
            name: {**{k: v for k, v in entry.items() if k != "sources"}, "code": entry["sources"]}
            for name, entry in data["tests"].items()
        }
        return {**data, "tests": tests}

    monkeypatch.setattr(store, "FORMAT", 2)
    monkeypatch.setattr(store, "UPGRADES", {1: upgrade})
    file.path.write_text(old)
    assert BaselineFile(file.path.parent, "cpu").entry(TEST) == an_entry()
    write(file.path.parent, {"test_new.py::test_new": an_entry()})
    text = file.path.read_text()
    assert '"format": 2' in text
    assert '"sources"' not in text
    assert BaselineFile(file.path.parent, "cpu").entry(TEST) == an_entry()


def _write_many(folder: Path, worker: int) -> None:
    for number in range(10):
        write(folder, {f"test_it.py::test_{worker}_{number}": an_entry()})


def test_sessions_that_write_at_once_lose_nothing(file: BaselineFile) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write_many, args=(file.path.parent, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(BaselineFile(file.path.parent, "cpu").tests()) == 2 + 40
    assert [path.name for path in file.path.parent.iterdir()] == ["cpu.json"]


def test_where_nothing_can_be_written_it_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b" / "cpu.json")
    (tmp_path / "a").write_text("")
    with pytest.raises(RecordError, match=r"a/cpu.json cannot be written: .*/a is read-only, or no folder"):
        refuse_unwritable(tmp_path / "a" / "cpu.json")


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RecordError, match=r"cannot be written: .* is read-only, or no folder"):
        refuse_unwritable(tmp_path / "cpu.json")


def test_a_gate_decides_in_a_tenth_of_a_second_among_ten_thousand_runs(tmp_path: Path) -> None:
    entry = store.rendered(an_entry().to_data(), 2)
    body = ",\n".join(f'    "test_it.py::test_{number:05}": {entry}' for number in range(10_000))
    text = f'{{\n  "environment": "cpu",\n  "format": 1,\n  "tests": {{\n{body}\n  }}\n}}\n'
    (tmp_path / "cpu.json").write_text(text)
    took = []
    for test in (f"test_it.py::test_{number:05}" for number in (0, 5000, 9999)):
        start = time.process_time()
        case = Case(test, tmp_path)
        assert case.hold(Seen(metrics_of(SOUND), HERE), Tolerances({})) == []
        took.append(time.process_time() - start)
        assert {c.verdict for c in case.comparisons} == {"passed"}
    assert min(took) < 0.1


def test_an_entry_of_another_environment_has_a_file_of_its_own(tmp_path: Path) -> None:
    on_gpu = an_entry(run(environment=H200))
    found = write(tmp_path, {TEST: on_gpu}, "nvidia-h200")
    assert found.path.name == "nvidia-h200.json"
    assert found.entry(TEST) == on_gpu
    assert isinstance(on_gpu, Entry)
