"""Where a number was seen."""

from __future__ import annotations

import dataclasses

import pytest
from baseline.regressions import H200, SOUND

from pytest_ftcheck import environment
from pytest_ftcheck.baseline.fingerprint import Fingerprint, environment_class
from pytest_ftcheck.environment import current_environment, processor


@pytest.mark.parametrize(
    ("device", "name", "expected"),
    [
        ("cpu", "AMD EPYC, AVX2", "cpu"),
        ("cuda", "NVIDIA H200", "nvidia-h200"),
        ("cuda", "NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("cuda", "AMD Instinct MI300X", "amd-instinct-mi300x"),
        ("cuda", "Tesla T4 / MIG 1g.5gb", "tesla-t4-mig-1g-5gb"),
        ("cuda", "???", "cuda"),
    ],
)
def test_the_class_of_an_environment_is_a_file_s_name(device: str, name: str, expected: str) -> None:
    assert environment_class(device, name) == expected


def test_what_has_changed_is_said_in_a_few_words() -> None:
    before = Fingerprint.of(SOUND.environment)
    after = dataclasses.replace(
        before, name="another", threads=2, deterministic=True, versions={"torch": "2.14.0", "peft": "0.22"}
    )
    assert before.changes(after) == [
        "processor: x86_64 -> another",
        "threads: 1 -> 2",
        "deterministic algorithms: False -> True",
        "peft absent -> 0.22",
        "python 3.11.7 -> absent",
        "torch 2.13.0 -> 2.14.0",
    ]
    assert before.changes(before) == []


def test_of_a_gpu_the_gpu_is_named() -> None:
    before = Fingerprint.of(H200)
    assert before.changes(dataclasses.replace(before, name="NVIDIA B200")) == ["GPU: NVIDIA H200 -> NVIDIA B200"]


def test_the_environment_of_today_names_the_processor_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import platform
    from pathlib import Path

    text = Fingerprint.of(current_environment("cpu")).to_json()
    for private in (platform.node(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert len(private) < 4 or private not in text
    assert processor() in text
    assert processor().rpartition(", ")[2] in ("DEFAULT", "AVX2", "AVX512", "SVE256", "VSX", "Z VECTOR", "NO AVX")


def test_the_driver_of_a_gpu_is_read_without_a_library_of_its_maker(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("proc") / "version"
    monkeypatch.setattr(environment, "DRIVER_INFO", file)
    assert "driver" not in environment._of_gpu()
    for text in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC version: gcc 12.3.0",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (root@host)",
    ):
        file.write_text(text)
        assert environment._of_gpu()["driver"] == "550.54.15"
