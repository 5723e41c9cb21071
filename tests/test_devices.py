from __future__ import annotations

import pytest
import torch

from pytest_ftcheck import devices
from pytest_ftcheck.errors import DeviceError

GB = 10**9


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Two GPUs of 80 GB; the bytes that others use of each."""
    others = {0: 0, 1: 0}
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * GB, 80 * GB)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # This process's own 30 GB are on both.
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: 30 * GB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (50 * GB - others[number], 80 * GB))
    return others


def test_auto_is_the_first_gpu_that_is_not_in_use_by_others(gpus: dict[int, int]) -> None:
    assert devices.resolve_device("auto") == "cuda:0"
    gpus[0] = 20 * GB
    assert devices.resolve_device("auto") == "cuda:0"
    gpus[0] = 21 * GB
    assert devices.resolve_device("auto") == "cuda:1"


def test_where_all_are_in_use_auto_says_so_and_a_name_is_obeyed(gpus: dict[int, int]) -> None:
    gpus.update({0: 21 * GB, 1: 30 * GB})
    told = "21.0 of 80.0 GB of cuda:0 in use by others; allowed: 20.0 GB; 30.0 of 80.0 GB of cuda:1 in use by others"
    with pytest.raises(DeviceError, match=told):
        devices.resolve_device("auto")
    assert devices.resolve_device("cuda:0") == "cuda:0"


@pytest.mark.parametrize(("used", "exclusive", "lacks"), [(1, True, False), (2, True, True), (2, False, False)])
def test_an_exclusive_test_shares_with_nobody(gpus: dict[int, int], used: int, exclusive: bool, lacks: bool) -> None:
    gpus.update({0: used * GB, 1: used * GB})
    assert bool(devices.lacks(0, 1, exclusive)) is lacks


def test_as_many_free_gpus_as_are_needed_are_enough(gpus: dict[int, int]) -> None:
    gpus[0] = 79 * GB
    assert devices.lacks(0, 1) is None
    assert devices.lacks(0, 2) == "79.0 of 80.0 GB of cuda:0 in use by others; allowed: 20.0 GB"


def test_nothing_is_timed_beside_others(gpus: dict[int, int]) -> None:
    gpus[1] = 2 * GB
    devices.refuse_company("cuda:0")
    devices.refuse_company("cpu")
    with pytest.raises(
        DeviceError, match=r"2.0 of 80.0 GB of cuda:1 in use by others; allowed: 1.6 GB: nothing can be"
    ):
        devices.refuse_company("cuda:1")
