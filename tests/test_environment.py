"""The GPU of this machine, as far as it can be told without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ftcheck import environment
from pytest_ftcheck.environment import installed_gpu


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without one; returns where its driver would say otherwise."""
    monkeypatch.setattr(environment, "GPU_INFO", tmp_path / "gpus")
    monkeypatch.setattr(environment, "DRIVER_INFO", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def command(folder: Path, text: str) -> None:
    (folder / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bin" / "nvidia-smi").chmod(0o755)


def test_where_there_is_none_nothing_is_said(no_gpu: Path) -> None:
    assert installed_gpu() == {}


def test_the_first_is_named_with_its_driver(no_gpu: Path) -> None:
    for number, model in (("0000:41:00.0", "NVIDIA H200"), ("0000:c1:00.0", "Tesla T4")):
        (no_gpu / "gpus" / number).mkdir(parents=True)
        (no_gpu / "gpus" / number / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 42\n")
    assert installed_gpu() == {"name": "NVIDIA H200"}
    (no_gpu / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release\n")
    assert installed_gpu() == {"name": "NVIDIA H200", "driver": "570.124.06"}


def test_in_a_container_the_driver_s_command_is_asked(no_gpu: Path) -> None:
    command(no_gpu, "echo 'NVIDIA H100 80GB HBM3, 535.1'; echo 'Tesla T4, 535.1'")
    assert installed_gpu() == {"name": "NVIDIA H100 80GB HBM3", "driver": "535.1"}


@pytest.mark.parametrize("text", ["exit 9", "true"])
def test_a_command_that_fails_or_says_nothing_is_no_gpu(no_gpu: Path, text: str) -> None:
    command(no_gpu, text)
    assert installed_gpu() == {}


def test_it_does_not_import_torch() -> None:
    code = "import sys; from pytest_ftcheck import environment as e; e.installed_gpu(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
