"""The form of what is saved is that of the pytest-benchmark that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from history.measured import H200, a_head, a_measurement, add_run, day
from pytest_benchmark import utils
from pytest_benchmark.stats import Metadata

from pytest_ftcheck.history.saved import described, machine_id, saved_metric, saved_session


def theirs(one: Any) -> dict[str, Any]:
    """What pytest-benchmark itself would save of the same values."""
    made = Metadata(SimpleNamespace(**described(one), cprofile_stats=None), iterations=1, options={})
    for value in one.values:
        made.update(value)
    return dict(made.as_dict())


@pytest.mark.parametrize("values", [(3.0,), (0.0,), (1.0, 1.0), (5.0, 1.0, 4.0, 2.0, 3.0), (1.0,) * 9 + (50.0,)])
def test_a_metric_is_saved_as_pytest_benchmark_would(values: tuple[float, ...]) -> None:
    """Quartiles have several definitions; all else must be the same."""
    ours, expected = saved_metric(a_measurement(*values)), theirs(a_measurement(*values))
    assert ours.keys() == expected.keys()
    assert ours["stats"].keys() == expected["stats"].keys()
    same = ("min", "max", "mean", "stddev", "rounds", "median", "ops", "total", "iterations", "stddev_outliers")
    assert ours["stats"]["data"] == expected["stats"]["data"]
    assert {key: ours["stats"][key] for key in same} == pytest.approx({key: expected["stats"][key] for key in same})
    assert ours["stats"]["q1"] <= ours["stats"]["median"] <= ours["stats"]["q3"]


def test_an_outlier_is_counted() -> None:
    stats = saved_metric(a_measurement(*(1.0 + i / 100 for i in range(9)), 50.0))["stats"]
    assert (stats["iqr_outliers"], stats["outliers"], stats["hd15iqr"]) == (1, "1;1", 1.08)


def test_what_should_grow_is_saved_as_its_inverse() -> None:
    saved = saved_metric(a_measurement(4.0, metric="lora/time.tokens_per_s", unit="tokens/s", direction="higher"))
    assert saved["stats"]["median"] == 0.25
    assert saved["group"] == "1 / time.tokens_per_s (tokens/s)"
    assert saved["extra_info"]["inverted"]


def test_the_gpu_is_said_and_no_host() -> None:
    saved = saved_session([a_measurement(fingerprint=H200)], a_head(0), day(0))
    assert saved["machine_info"]["gpu"] == {"name": "NVIDIA H200", "driver": "570.10"}
    assert "node" not in saved["machine_info"]
    assert "gpu" not in saved_session([a_measurement()], a_head(0), day(0))["machine_info"]


def test_the_folder_of_the_machine_is_the_one_that_pytest_benchmark_looks_in() -> None:
    assert machine_id() == utils.get_machine_id()


def test_its_compare_command_reads_what_is_saved(tmp_path: Path) -> None:
    step = a_measurement(0.5, metric="lora/time.step_s", unit="s")
    for index, value in enumerate((1000.0, 2000.0)):
        add_run(tmp_path / "history", index, a_measurement(value), step)
    storage = f"file://{tmp_path / 'history' / 'cpu'}"
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", storage, "compare", "--csv", "table"]
    subprocess.run([*command, "--group-by", "fullname"], cwd=tmp_path, check=True, capture_output=True)
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert [row.partition(",")[0].rpartition("#")[2] for row in rows[1:]] == [
        *("lora/memory.peak_bytes", "lora/memory.peak_bytes"),
        *("lora/time.step_s", "lora/time.step_s"),
    ]


def test_what_is_saved_is_json() -> None:
    json.dumps(saved_session([a_measurement()], a_head(0), day(0)), allow_nan=False)
