"""A machine's GPUs as its driver would report them, without a GPU: ``nvidia-smi`` is a script on PATH."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ANSWERS = """#!/bin/sh
case "$1" in
    -L) cat "{folder}/list" ;;
    --query-gpu=*) cat "{folder}/gpus" ;;
    --query-compute-apps=*) cat "{folder}/processes" ;;
esac
"""
Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """``machine("GPU-a, 81559, 4", ...)``: UUID, memory and memory in use (MiB) of each; lines of processes; a list."""
    folder = tmp_path_factory.mktemp("driver")
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    # The lock files of leases.
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)

    def has(*gpus: str, processes: str = "", listing: str = "") -> Path:
        (folder / "gpus").write_text("".join(f"{gpu}\n" for gpu in gpus))
        (folder / "processes").write_text(processes)
        (folder / "list").write_text(listing)
        tool = folder / "nvidia-smi"
        tool.write_text(ANSWERS.format(folder=folder))
        tool.chmod(0o755)
        return tool

    return has
