from __future__ import annotations

import os
from pathlib import Path

import pytest
from pretended_gpus import Machine

from pytest_ftcheck.leasing.gpu import IDLE_PROCESS_BYTES
from pytest_ftcheck.leasing.inventory import inventory

MIB = 2**20
FOUR = [f"GPU-{letter}{letter}, 81559, 4" for letter in "abcd"]


def names(environment: dict[str, str] | None = None) -> list[str]:
    return [gpu.name for gpu in inventory(os.environ if environment is None else environment).gpus]


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert inventory({}).gpus == ()


def test_without_a_variable_every_gpu_is_known_by_its_uuid(machine: Machine) -> None:
    machine(*FOUR)
    assert names() == ["GPU-aa", "GPU-bb", "GPU-cc", "GPU-dd"]
    assert inventory({}).gpus[0].memory_bytes == 81559 * MIB


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("2,3", ["2", "3"]),
        ("GPU-cc, GPU-aa", ["GPU-cc", "GPU-aa"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
    ],
)
def test_only_what_the_caller_shows_is_used_under_the_callers_names(
    machine: Machine, shown: str, expected: list[str]
) -> None:
    machine(*FOUR)
    assert names({"CUDA_VISIBLE_DEVICES": shown}) == expected


def test_an_index_is_a_gpu_of_which_the_driver_tells(machine: Machine) -> None:
    machine("GPU-aa, 1000, 0", "GPU-bb, 1000, 900")
    assert [gpu.used_bytes for gpu in inventory({"CUDA_VISIBLE_DEVICES": "1"}).gpus] == [900 * MIB]


def test_an_index_among_unlike_gpus_is_known_only_where_cuda_counts_as_the_driver_does(machine: Machine) -> None:
    machine("GPU-aa, 1000, 0", "GPU-bb, 2000, 900")
    by_speed = {"CUDA_VISIBLE_DEVICES": "1"}
    assert inventory(by_speed).gpus[0].memory_bytes == 0
    assert inventory({**by_speed, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}).gpus[0].memory_bytes == 2000 * MIB


def test_a_gpu_in_use_by_others_is_refused_with_the_numbers(machine: Machine) -> None:
    machine("GPU-aa, 81559, 40960", "GPU-bb, 81559, 4", processes="GPU-aa, 4711, /opt/bin/python, 40900\n")
    found = inventory({})
    assert [gpu.name for gpu in found.free] == ["GPU-bb"]
    assert found.refused == (
        "GPU GPU-aa: 42.9 GB of 85.5 GB in use by python (pid 4711) with 42.9 GB; "
        "allowed: 21.4 GB, and no process that computes there",
    )


@pytest.mark.parametrize(
    ("used", "process", "free"), [(249, 0, True), (251, 0, False), (100, 400, True), (100, 600, False)]
)
def test_a_desktop_or_an_idle_process_is_no_use_by_others(
    machine: Machine, used: int, process: int, free: bool
) -> None:
    assert 400 * MIB < IDLE_PROCESS_BYTES < 600 * MIB
    machine(f"GPU-aa, 1000, {used}", processes=f"GPU-aa, 4711, python, {process}\n")
    assert bool(inventory({}).free) is free


def test_what_the_driver_does_not_tell_is_no_use_by_others(machine: Machine) -> None:
    machine("GPU-aa, [N/A], [N/A]", processes="GPU-aa, 4711, python, [N/A]\n")
    assert [gpu.name for gpu in inventory({}).free] == ["GPU-aa"]


def test_instances_of_a_divided_gpu_are_used_in_its_place(machine: Machine) -> None:
    listing = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)
  MIG 1g.10gb     Device  0: (UUID: MIG-11)
  MIG 3g.40gb     Device  1: (UUID: MIG-22)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)
"""
    machine("GPU-aa, 81559, 4", "GPU-bb, 81559, 4", listing=listing)
    found = inventory({}).gpus
    assert [(gpu.name, gpu.memory_bytes) for gpu in found[:2]] == [("MIG-11", 10 * 2**30), ("MIG-22", 40 * 2**30)]
    assert found[2].name == "GPU-bb"
    assert [gpu.is_instance for gpu in found] == [True, True, False]


def test_gpus_of_rocm_are_known_by_index(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = machine()
    card = '{{"VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "{}"}}'
    told = f'{{"card1": {card.format(60_000_000_000)}, "card0": {card.format(10_485_760)}, "system": {{}}}}'
    tool.rename(tool.with_name("rocm-smi")).write_text(f"#!/bin/sh\necho '{told}'\n")
    found = inventory({})
    assert [gpu.name for gpu in found.gpus] == ["0", "1"]
    assert [gpu.name for gpu in found.free] == ["0"]
    assert [gpu.name for gpu in inventory({"HIP_VISIBLE_DEVICES": "1"}).gpus] == ["1"]
    assert inventory({"HIP_VISIBLE_DEVICES": "1"}).variable == "HIP_VISIBLE_DEVICES"


@pytest.mark.parametrize("trouble", ["exit 9", "echo No devices were found", "echo '{'"])
def test_a_driver_in_trouble_has_no_gpu(machine: Machine, trouble: str) -> None:
    machine(*FOUR).write_text(f"#!/bin/sh\n{trouble}\n")
    assert inventory({}).gpus == ()
