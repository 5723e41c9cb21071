from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pretended_gpus import Machine

from pytest_ftcheck.leasing import leases as leases_module
from pytest_ftcheck.leasing.gpu import VisibleGpu
from pytest_ftcheck.leasing.inventory import Inventory, inventory
from pytest_ftcheck.leasing.leases import Leases, lock_place, names_of


def leases_of(*names: str) -> Leases:
    return Leases("CUDA_VISIBLE_DEVICES", [VisibleGpu(name) for name in names], [])


def shares(names: str, workers: int) -> list[str]:
    return [names_of(share) for share in leases_of(*names.split()).share(workers)]


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (4, ["2", "3", "5", "7"]),
        (1, ["2,3,5,7"]),
        (2, ["2,3", "5,7"]),
        (3, ["2,3", "5", "7"]),
        (6, ["2", "3", "5", "7", "", ""]),
    ],
)
def test_each_gpu_is_owned_once(workers: int, expected: list[str]) -> None:
    assert shares("2 3 5 7", workers) == expected


def test_a_worker_owns_one_instance_of_a_divided_gpu_at_most() -> None:
    assert shares("MIG-a MIG-b MIG-c", 2) == ["MIG-a", "MIG-b"]
    assert shares("GPU-a MIG-b MIG-c", 3) == ["GPU-a", "MIG-b", "MIG-c"]


def test_without_a_gpu_nobody_owns_one() -> None:
    assert shares("", 2) == ["", ""]


HOLD = """
import sys
from pytest_ftcheck.leasing.inventory import inventory
from pytest_ftcheck.leasing.leases import Leases
held = Leases.of(inventory())
print([gpu.name for gpu in held.free], flush=True)
sys.stdin.read()
"""


def test_a_gpu_that_another_session_holds_is_refused_until_that_one_dies(machine: Machine) -> None:
    machine("GPU-aa, 81559, 4", "GPU-bb, 81559, 4")
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "['GPU-aa', 'GPU-bb']\n"
        mine = Leases.of(inventory())
        assert mine.free == []
        assert mine.refused == [
            f"GPU {name}: leased by another session (pid {other.pid})" for name in ("GPU-aa", "GPU-bb")
        ]
        # By its index it is the same GPU.
        assert Leases.of(inventory({"CUDA_VISIBLE_DEVICES": "1"})).free == []
    finally:
        other.kill()
        other.communicate()
    mine = Leases.of(inventory())
    assert [gpu.name for gpu in mine.free] == ["GPU-aa", "GPU-bb"]
    mine.release()


def test_where_no_lock_can_be_kept_the_gpus_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(leases_module, "lock_place", lambda identity: tmp_path / "file" / identity)
    assert [gpu.name for gpu in Leases.of(Inventory((VisibleGpu("0"),), "CUDA_VISIBLE_DEVICES")).free] == ["0"]


def test_a_lock_file_is_called_after_the_gpu() -> None:
    assert lock_place("MIG-GPU-aa/7/0").name == "MIG-GPU-aa_7_0.lock"
